"""Requests to a node: over its Unix socket, or to ``HARBOR_URL`` with ``HARBOR_TOKEN``.

aiohttp is imported by the first request, not by whoever merely wants to be able to make one.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

from harbor.errors import HarborError

if TYPE_CHECKING:
    import aiohttp

SOCKET: Final = "harbor.sock"
ANSWER_TIMEOUT: Final = 60.0  # seconds; a change waits for the disk, nothing takes this long
CONNECT_TIMEOUT: Final = 10.0
LONGEST_LINE: Final = 1024 * 1024  # of the event feed


class Unreachable(HarborError):
    """No node answered, or something else did; asking again later may work."""


class RefusedByNode(HarborError):
    """The node understood and said no; ``code`` and ``status`` are those of its answer."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node answers: at a URL, or on a Unix socket."""

    url: str
    socket: Path | None = None
    token: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.url if self.socket is None else str(self.socket)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is not a refusal."""

    status: int
    body: Any
    following: str | None  # path and query of the next page
    replayed: bool


def place(config: Path | None, environ: Mapping[str, str] = os.environ) -> Place:
    """The node that is meant: an explicit configuration wins, then HARBOR_URL, then the usual configuration.

    Errors: ``HarborError`` if the URL is none or the configuration cannot be read.
    """
    url = environ.get("HARBOR_URL", "")
    if url and config is None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise HarborError(f"HARBOR_URL: {url} is not like http://127.0.0.1:7070 or https://harbor.example:7070")
        return Place(url.rstrip("/"), token=environ.get("HARBOR_TOKEN"))
    return Place("http://harbor", socket=_state_dir(config, environ) / SOCKET)


def with_query(path: str, query: Mapping[str, object] | None) -> str:
    """The path with those parameters that are not None."""
    present = {name: value for name, value in (query or {}).items() if value is not None}
    return f"{path}?{urlencode(present)}" if present else path


def segment(text: str) -> str:
    """A name as one part of a path, whatever it holds."""
    return quote(text, safe="").replace(".", "%2E") if text in (".", "..") else quote(text, safe="")


class Client:
    """Connections to one node, kept while it is open.

    Closing: an asynchronous context manager.

    Errors: every method raises ``RefusedByNode`` with the node's own words, or ``Unreachable`` with the place that
    was tried and what happened there.
    """

    def __init__(self, where: Place, timeout: float | None = ANSWER_TIMEOUT) -> None:
        self.where = where
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        import aiohttp

        where = self.where
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector() if where.socket is None else aiohttp.UnixConnector(str(where.socket)),
            headers={} if where.token is None else {"Authorization": f"Bearer {where.token}"},
            timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=CONNECT_TIMEOUT),
            read_bufsize=LONGEST_LINE,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def send(
        self, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None, tries: int = 1
    ) -> Reply:
        """Ask the node. A connection that breaks is tried again while ``tries`` last."""
        import aiohttp

        content = None if body is None else json.dumps(body).encode()
        sent = {**(headers or {}), **({} if content is None else {"Content-Type": "application/json"})}
        assert self._session is not None
        with _told(self.where):
            while True:
                tries -= 1
                try:
                    async with self._session.request(
                        method, _url(self.where, target), data=content, headers=sent
                    ) as answer:
                        return await _read(answer, self.where)
                except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
                    if tries <= 0:
                        raise

    async def follow(self, target: str) -> AsyncGenerator[Any, None]:
        """The events of a feed as they come. Errors: ``Unreachable`` also when the node ends the feed."""
        assert self._session is not None
        with _told(self.where):
            async with self._session.get(_url(self.where, target), headers={"Accept": "text/event-stream"}) as answer:
                await _read(answer, self.where)
                async for line in answer.content:
                    if line.startswith(b"data: "):
                        yield json.loads(line[6:])
        raise Unreachable(
            f"{self.where} ended the feed; the node has stopped, or events came faster than they were read"
        )


@contextmanager
def _told(where: Place) -> Iterator[None]:
    """Whatever goes wrong on the way becomes an ``Unreachable`` that names the place that was tried."""
    import aiohttp

    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError, json.JSONDecodeError) as exc:
        raise Unreachable(_unreached(where, exc)) from exc


def _url(where: Place, target: str) -> Any:
    from yarl import URL

    return URL(where.url + target, encoded=True)


async def _read(answer: aiohttp.ClientResponse, where: Place) -> Reply:
    kind = answer.content_type
    if answer.status >= 400:
        body = json.loads(await answer.text()) if kind == "application/problem+json" else None
        raise _refusal(where, answer.status, body)
    if kind == "text/event-stream":
        return Reply(answer.status, None, None, False)
    text = await answer.text()
    if text and kind != "application/json":
        raise Unreachable(f"{where} does not answer like a Harbor node; is HARBOR_URL the address of its API?")
    following = answer.headers.get("Link", "").partition("<")[2].partition(">")[0] or None
    replayed = "Idempotency-Replayed" in answer.headers
    return Reply(answer.status, json.loads(text) if text else None, following, replayed)


def _refusal(where: Place, status: int, body: Any) -> HarborError:
    if not isinstance(body, dict):
        return Unreachable(f"{where} answered {status} without a reason; is HARBOR_URL the address of a node's API?")
    detail = str(body.get("detail", "refused without a reason"))
    if status == 401:
        detail = f"{detail} (HARBOR_TOKEN is {'not set' if where.token is None else 'set'})"
    return RefusedByNode(detail, code=str(body.get("code", "")), status=status)


def _unreached(where: Place, exc: Exception) -> str:
    elsewhere = "for a node elsewhere set HARBOR_URL and HARBOR_TOKEN"
    cause = getattr(exc, "os_error", exc)
    if where.socket is not None:
        if isinstance(cause, PermissionError):
            return f"{where} is open to the node's own user only; become that user, or set HARBOR_URL and HARBOR_TOKEN"
        if isinstance(cause, FileNotFoundError):
            return f"no node at {where}: there is no such socket; start one with harbor serve, or {elsewhere}"
        return f"no node answers at {where} ({_words(cause)}); start one with harbor serve, or {elsewhere}"
    return f"no node answers at {where} ({_words(cause)}); is it running, and is HARBOR_URL right?"


def _words(cause: Exception) -> str:
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, OSError) and cause.strerror:
        return os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror
    return str(cause) or type(cause).__name__


def _state_dir(config: Path | None, environ: Mapping[str, str]) -> Path:
    from harbor.config import load
    from harbor.errors import ConfigInvalid

    try:
        return load(config, environ).state_dir
    except ConfigInvalid as exc:
        more = f" (and {len(exc.problems) - 1} more)" if len(exc.problems) > 1 else ""
        raise HarborError(f"{exc.problems[0]}{more}") from exc
