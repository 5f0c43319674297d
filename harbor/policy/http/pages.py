"""What Harbor itself answers: short pages that say why, and the way to HTTPS. No version, no stack, no script."""

from __future__ import annotations

import html
from typing import Final

from harbor.policy.http.fields import OF_REQUEST, check, found_in, host_of
from harbor.policy.http.refused import Malformed
from harbor.policy.http.start_line import plain_target, request_line

PHRASES: Final = {
    301: "Moved Permanently",
    308: "Permanent Redirect",
    400: "Bad Request",
    408: "Request Timeout",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}
HTTPS_PORT: Final = 443

_HEAD: Final = (
    "HTTP/1.1 {status} {phrase}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\n"
    "Cache-Control: no-store\r\nContent-Security-Policy: default-src 'none'\r\nX-Content-Type-Options: nosniff\r\n"
    "{more}Connection: close\r\n\r\n"
)
_PAGE: Final = (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{status} {phrase}</title></head>\n'
    "<body><h1>{status} {phrase}</h1><p>{words}.</p></body></html>\n"
)


def refusal_page(status: int, words: str, *, head_only: bool = False) -> bytes:
    """A whole response that says ``words`` (a sentence without its full stop) and closes; for HEAD without the page."""
    return _response(status, html.escape(words), "", head_only)


def redirect_to_https(head: bytes, port: int) -> bytes:
    """The answer to a plain request on a TLS port: the same address with https, or 400 if it names no safe host.

    ``head`` is what came so far, whole up to its empty line; ``port`` is the one that clients must ask for.
    """
    try:
        method, host, path = _asked(head)
    except Malformed as wrong:
        return refusal_page(wrong.status, wrong.words)
    name = host[: host.rindex(b":")] if host[-1:] != b"]" and b":" in host else host
    where = f"https://{name.decode()}{'' if port == HTTPS_PORT else f':{port}'}{path.decode()}"
    status = 301 if method in (b"GET", b"HEAD") else 308  # 301 lets a POST become a GET
    link = f'This port speaks HTTPS: <a href="{html.escape(where)}">{html.escape(where)}</a>'
    return _response(status, link, f"Location: {where}\r\n", method == b"HEAD")


def _asked(head: bytes) -> tuple[bytes, bytes, bytes]:
    """Method, Host and path of a request."""
    line = request_line(head)
    end = head.find(b"\r\n\r\n") + 2
    if end < line.end():
        end = line.end()
    check(head, line.end(), end)
    host = host_of(found_in(OF_REQUEST, head, line.end(), end))
    if host is None or line[1] == b"CONNECT":
        raise Malformed("This port speaks HTTPS, and the request does not say for which host")
    path = plain_target(line[1], line[2], host)
    return line[1], host, b"/" if path == b"*" else path


def _response(status: int, words: str, more: str, head_only: bool) -> bytes:
    phrase = PHRASES.get(status, "Refused")
    page = _PAGE.format(status=status, phrase=phrase, words=words).encode()
    head = _HEAD.format(status=status, phrase=phrase, length=len(page), more=more).encode()
    return head if head_only else head + page
