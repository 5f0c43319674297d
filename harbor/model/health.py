"""How a service's backends are checked, as a value: which question is asked, how often, and which answer is good."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from harbor.model.kinds import Choice, Kind, Seconds, Text, Whole, Wrong, setting, shown

LONGEST_PATH: Final = 1024  # characters
LONGEST_TEXT: Final = 1024  # characters of what is sent or expected; a check is a question, not a load
MOST_STATUSES: Final = 32
DNS_TYPES: Final = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33}
DNS_CODES: Final = {"NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5}
EVERY_SERVER_KNOWS: Final = ". NS"  # the root's name servers: whoever serves DNS has an answer, if only a refusal

_ESCAPE: Final = re.compile(r"\\(x[0-9A-Fa-f]{2}|.?)", re.DOTALL)
_MEANT: Final = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}
_STATUS: Final = re.compile(r"([1-5])xx|([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", re.ASCII)
_LABEL: Final = re.compile(r"[!-\-/-~]{1,63}", re.ASCII)
_PATH: Final = re.compile(r"/[!-~]*", re.ASCII)


class CheckType(StrEnum):
    """What is asked of a backend."""

    TCP = "tcp"  # to accept a connection
    HTTP = "http"  # to answer GET with a good status
    EXCHANGE = "exchange"  # to answer bytes over TCP
    UDP = "udp"  # to answer a datagram
    DNS = "dns"  # to answer a DNS query over UDP


class Statuses(Kind):
    """Statuses of HTTP: 200, a class like ``2xx``, a range like ``200-399``, or several of them."""

    def check(self, value: Any) -> Any:
        entries = value.split(",") if isinstance(value, str) else value
        if not isinstance(entries, list | tuple):
            _span(value)
            return value
        if not 0 < len(entries) <= MOST_STATUSES:
            raise Wrong(f"there are {len(entries)} statuses; give 1 to {MOST_STATUSES}")
        for entry in entries:
            _span(entry)
        return value if isinstance(value, str) else list(entries)

    def build(self, plain: Any) -> Any:
        return tuple(plain) if isinstance(plain, list) else plain

    def plain(self, built: Any) -> Any:
        return list(built) if isinstance(built, tuple) else built

    def schema(self) -> dict[str, Any]:
        return {"type": ["integer", "string", "array"], "items": {"type": ["integer", "string"]}}


class Escaped(Text):
    r"""Text that stands for bytes: UTF-8, with ``\r``, ``\n``, ``\t``, ``\0``, ``\\`` and ``\xNN``."""

    def check(self, value: Any) -> Any:
        text = super().check(value)
        unescaped(text)
        return text


def unescaped(text: str) -> bytes:
    """The bytes that a text with escapes stands for. Errors: ``Wrong``."""
    parts, end = [], 0
    for match in _ESCAPE.finditer(text):
        parts.append(text[end : match.start()].encode("utf-8", "surrogatepass"))
        end = match.end()
        code = match[1]
        if code not in _MEANT and len(code) != 3:
            raise Wrong(rf"{shown(match[0])} is no escape; there are \r, \n, \t, \0, \\ and \xNN")
        parts.append(_MEANT[code] if code in _MEANT else bytes.fromhex(code[1:]))
    return b"".join(parts) + text[end:].encode("utf-8", "surrogatepass")


# Which of the members that are not for all types a type has.
_MEMBERS: Final = {
    CheckType.TCP: (),
    CheckType.HTTP: ("path", "status"),
    CheckType.EXCHANGE: ("send", "expect"),
    CheckType.UDP: ("send", "expect"),
    CheckType.DNS: ("send", "expect"),
}


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One check of a service. The questions are the same to all of its backends, each at an address of its own."""

    type: CheckType = setting(
        Choice(CheckType),
        "`tcp` connects, `http` gets a path, `exchange` sends bytes over TCP and reads the answer, `udp` does the same "
        "with one datagram each, `dns` asks a question over UDP.",
    )
    interval: float = setting(Seconds(0.1, 86_400), "Seconds between two checks, give or take a tenth.", 5.0)
    timeout: float = setting(Seconds(0.1, 300), "Seconds in which one check must pass.", 2.0)
    rise: int = setting(Whole(1, 100), "So many passed checks in a row bring back what is down.", 2)
    fall: int = setting(Whole(1, 100), "So many failed checks in a row take a backend down.", 3)
    start_period: float = setting(
        Seconds(0, 86_400), "Seconds after its registration in which a backend that starts may fail checks.", 0.0
    )
    port: int | None = setting(Whole(1, 65_535), "The port to check. Empty: the backend's own.", None)
    path: str | None = setting(Text(LONGEST_PATH), "`http`: what to get. Empty: `/`.", None)
    status: int | str | tuple[int | str, ...] | None = setting(
        Statuses(), "`http`: which statuses pass: 200, `2xx`, `200-399`, or several. Empty: `200-399`.", None
    )
    send: str | None = setting(
        Escaped(LONGEST_TEXT, any_character=True),
        r"`exchange`, `udp`: what to send, with escapes like `\r\n` and `\x00`. `dns`: which name to ask for, and "
        "which type, like `example.org SOA`. Empty: nothing, and for `dns` the root's name servers.",
        None,
    )
    expect: str | None = setting(
        Escaped(LONGEST_TEXT, any_character=True),
        "`exchange`, `udp`: what the answer must contain, with escapes. `dns`: the answer's code, like `NOERROR`. "
        "Empty: any answer.",
        None,
    )

    def __post_init__(self) -> None:
        for name in ("path", "status", "send", "expect"):
            if getattr(self, name) is not None and name not in _MEMBERS[self.type]:
                having = ", ".join(kind.value for kind, members in _MEMBERS.items() if name in members)
                raise Wrong(f"a check of type {self.type.value} has none; it belongs to {having}", name)
        if self.path is not None and not _PATH.fullmatch(self.path):
            raise Wrong(f"{shown(self.path)} is no path; begin with / and write blanks as %20", "path")
        if self.type is CheckType.DNS:
            self.question  # noqa: B018 - raises what is wrong with it
            if self.expect and self.expect not in DNS_CODES:
                raise Wrong(f"{shown(self.expect)} is no code; there are {', '.join(DNS_CODES)}", "expect")

    @property
    def payload(self) -> bytes:
        """What is sent."""
        return unescaped(self.send or "")

    @property
    def wanted(self) -> bytes:
        """What the answer has to contain; empty if any will do."""
        return unescaped(self.expect or "")

    @property
    def question(self) -> tuple[tuple[str, ...], int]:
        """The labels and the type to ask DNS for. Errors: ``Wrong``."""
        name, _, kind = (self.send or EVERY_SERVER_KNOWS).partition(" ")
        labels = tuple(name.removesuffix(".").split(".")) if name != "." else ()
        if not all(map(_LABEL.fullmatch, labels)) or sum(len(label) + 1 for label in labels) > 254:
            raise Wrong(f"{shown(name)} is no name; write one like example.org", "send")
        if kind and kind.upper() not in DNS_TYPES:
            raise Wrong(f"{shown(kind)} is none of the types {', '.join(DNS_TYPES)}", "send")
        return labels, DNS_TYPES[kind.upper() or "A"]

    def accepts(self, status: int) -> bool:
        """Whether this status of HTTP is good."""
        given = "200-399" if self.status is None else self.status
        entries = given.split(",") if isinstance(given, str) else given if isinstance(given, tuple) else (given,)
        return any(low <= status <= high for low, high in map(_span, entries))


def _span(entry: Any) -> tuple[int, int]:
    """The lowest and the highest status that an entry means. Errors: ``Wrong``."""
    text = str(entry).strip() if isinstance(entry, int | str) and not isinstance(entry, bool) else ""
    match = _STATUS.fullmatch(text)
    if match is None:
        raise Wrong(f"{shown(entry)} is no status; write one like 200, 2xx or 200-399")
    if match[1]:
        return int(match[1]) * 100, int(match[1]) * 100 + 99
    low, high = int(match[2]), int(match[3] or match[2])
    if low > high:
        raise Wrong(f"{shown(entry)} ends before it begins")
    return low, high
