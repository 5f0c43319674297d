"""Collections as plain JSON arrays, page by page: RFC 8288 ``Link: <...>; rel="next"`` leads on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from fastapi import Request
from starlette.responses import JSONResponse

T = TypeVar("T")


class Comparable(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


def part(
    members: Iterable[T], key: Callable[[T], Comparable], after: Comparable | None, limit: int
) -> tuple[list[T], bool]:
    """The ``limit`` members that follow ``after`` in the order of ``key``, and whether more follow them.

    ``after`` need not exist any more: a page continues where its key would stand.
    """
    ordered = sorted(members, key=key)
    if after is not None:
        ordered = [member for member in ordered if after < key(member)]
    return ordered[:limit], len(ordered) > limit


def page(request: Request, members: Sequence[Any], following: object | None) -> JSONResponse:
    """The reply for one page; ``following`` is the ``after`` of the next one, None at the end."""
    headers = {}
    if following is not None:
        url = request.url.include_query_params(after=str(following))
        headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    return JSONResponse(members, headers=headers)
