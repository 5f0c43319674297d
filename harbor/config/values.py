"""How single values of harbor.yml are written: each function returns the value in its one spelling or refuses it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr
from pydantic_core import PydanticCustomError

from harbor.model import Address

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

HIGHEST_PORT: Final = 65535
NODE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
RANGE: Final = re.compile(r"([0-9]{1,5})(?: *- *([0-9]{1,5}))?")
_VISIBLE: Final = re.compile(r"[!-~]+")
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOSTNAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")


def refused(message: str, *at: str | int) -> PydanticCustomError:
    """A refusal in our own words; ``at`` leads from the section that raises it to the value that is meant."""
    return PydanticCustomError("refused", "{message}", {"message": message, "at": at})


def ip(text: str) -> str:
    """A numeric address as ``ipaddress`` prints it."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise refused(f"{text!r} is not an IP address; write one like 10.0.0.5 or fd00::5") from None


def ip_or_nothing(text: str) -> str:
    """A numeric address, or the empty text that stands for none."""
    return ip(text) if text else ""


def hostname_or_nothing(text: str) -> str:
    """A DNS name, or the empty text that stands for none."""
    if text and (len(text) > 253 or not _HOSTNAME.fullmatch(text)):
        raise refused(f"{text!r} is not a host name; write one like ports.example.com")
    return text


def http_url_or_nothing(text: str) -> str:
    """The beginning of a URL, without a slash at its end, or the empty text that stands for none."""
    if not text:
        return ""
    if "@" in text:  # not echoed: what stands before it is commonly a password
        raise refused("has a user or password in it; leave them out")
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or not _VISIBLE.fullmatch(text) or parts.query or parts.fragment:
        raise refused(f"{text!r} is not the beginning of a URL; write one like https://api.example.com")
    return text.rstrip("/")


def header_secret(secret: SecretStr) -> SecretStr:
    """A secret that a header can carry: visible ASCII."""
    if not _VISIBLE.fullmatch(secret.get_secret_value()):
        raise refused("cannot be sent in a header; use letters, digits and signs, without spaces")
    return secret


def node_id(text: str) -> str:
    """A name that can stand in credentials, logs and file listings as it is."""
    if not NODE_ID.fullmatch(text):
        raise refused(f"{text!r} is not a node id; use letters, digits, '.', '_' and '-', 63 at most")
    return text


def file_path(path: Path) -> Path:
    """A path that names something: not empty, no NUL."""
    if path == Path() or "\0" in str(path):
        raise refused("is empty; write a path like /var/lib/harbor")
    return path


def address(text: str) -> Address:
    """The address in ``127.0.0.1:7070`` or ``[::1]:7070``; port 0 lets the kernel choose."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        raise refused(f"{text!r} has no port; write it like 127.0.0.1:7070")
    if len(port) > 5 or int(port) > HIGHEST_PORT:
        raise refused(f"{port} is not a port; ports go up to {HIGHEST_PORT}")
    if not host:
        raise refused(f"{text!r} names no address; write 127.0.0.1{text} for this machine only, 0.0.0.0{text} for all")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        parsed = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        raise refused(f"{host!r} is not an IP address; write the address like 127.0.0.1:{port}") from None
    if bracketed != (parsed.version == 6):
        raise refused(f"write it like {Address(str(parsed), int(port))}")
    return Address(str(parsed), int(port))


def address_text(text: str) -> str:
    """The same, as text in its one spelling."""
    return str(address(text))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    parsed = ipaddress.ip_address(host)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def is_loopback_url(url: str) -> bool:
    """Whether what answers at ``url`` is on this machine, as far as its text tells."""
    host = urlsplit(url).hostname or ""
    try:
        return is_loopback(host)
    except ValueError:
        return host == "localhost"


def network_text(text: str) -> str:
    """A network in CIDR notation; a lone address is the network of itself."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise refused(f"{text!r} is not a network; write one like 10.0.0.0/8 or fc00::/7") from None
    raise refused(f"{text!r} has bits set beyond its prefix; write {meant}")


def range_text(written: Any) -> str:
    """A range of ports as ``30000-32767``, or one port as ``30000``."""
    text = str(written) if isinstance(written, int) and not isinstance(written, bool) else written
    match = RANGE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        shown = repr(text) if isinstance(text, str) else "this"
        raise refused(f"{shown} is not a range; write it like 30000-32767")
    low, high = int(match[1]), int(match[2] or match[1])
    if low < 1 or high > HIGHEST_PORT:
        raise refused(f"{text!r} is not a range of ports; ports go from 1 to {HIGHEST_PORT}")
    if low > high:
        raise refused(f"{text!r} runs backwards; write {high}-{low}")
    return str(low) if low == high else f"{low}-{high}"


def span(text: str) -> tuple[int, int]:
    """The first and the last port of a range."""
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def overlap(spans: Iterable[tuple[int, int]], low: int, high: int) -> tuple[int, int] | None:
    """The part of ``low..high`` that the first touching span covers, if one does."""
    for first, last in spans:
        if first <= high and low <= last:
            return max(first, low), min(last, high)
    return None
