"""The tables of docs/conformance.md, made from the cases: ``python -m conformance.page FILE`` renews them."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from conformance.differences import PROXIES, differences_of

CHAPTERS: Final = ("test_tcp", "test_balance", "test_clients", "test_tls", "test_udp")
TITLES: Final = {"nginx": "nginx", "haproxy": "HAProxy", "harbor": "Harbor"}
BEGIN: Final = "<!-- made from tests/conformance by `make pages` -->\n"
END: Final = "<!-- the end of what is made -->\n"

Case = Callable[..., Any]


def cases_of(chapter: ModuleType) -> list[Case]:
    """The cases of a module, in their order."""
    own = (value for name, value in vars(chapter).items() if name.startswith("test_"))
    return [value for value in own if value.__module__ == chapter.__name__]


def all_cases() -> list[Case]:
    return [case for chapter in _chapters() for case in cases_of(chapter)]


def tables() -> str:
    """What the page has to say about every case."""
    return "\n".join(part for chapter in _chapters() for part in _chapter(chapter))


def renewed(page: str) -> str:
    """The page with its tables as they have to be."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def _chapters() -> Iterator[ModuleType]:
    return (importlib.import_module(f"conformance.{name}") for name in CHAPTERS)


def _chapter(chapter: ModuleType) -> Iterator[str]:
    yield f"## {(chapter.__doc__ or '').splitlines()[0].rstrip('.')}\n"
    yield f"| fault | what is promised | {' | '.join(TITLES[proxy] for proxy in PROXIES)} |"
    yield f"|{'---|' * (2 + len(PROXIES))}"
    cases = cases_of(chapter)
    for case in cases:
        fault, words = _named(case)
        verdicts = ("no" if proxy in differences_of(case) else "yes" for proxy in PROXIES)
        yield f"| {fault} | {words} | {' | '.join(verdicts)} |"
    yield ""
    differing = [case for case in cases if differences_of(case)]
    for case in differing:
        yield f"- *{_named(case)[1]}*: " + "; ".join(
            f"{TITLES[proxy]} {reason}" for proxy, reason in differences_of(case).items()
        )
    if differing:
        yield ""


def _named(case: Case) -> tuple[str, str]:
    """The fault that a case covers, if any, and what it promises."""
    found = re.fullmatch(r"test_(?:([A-Z][0-9]{2})_)?(.+)", case.__name__)
    assert found is not None, case
    return found[1] or "", found[2].replace("_", " ")


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(renewed(file.read_text()))
