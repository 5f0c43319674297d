"""The admin token, the users of the broker, and what becomes of those who guess."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harbor.store.secret import load_or_create_secret

FILE: Final = "admin.token"
WINDOW: Final = 60.0  # seconds over which wrong tokens are counted
MOST_WRONG: Final = 10  # per source and window; a script with an old token is told soon, a person never
MOST_SOURCES: Final = 1024  # sources remembered; the table must not grow with the attackers


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """A secret that somebody has to send. Its text is neither shown nor logged."""

    _secret: bytes

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def matches(self, given: bytes) -> bool:
        """Whether this is the token, in a time that does not tell how much of it was right."""
        return hmac.compare_digest(self._secret, given)


class AdminToken(Token):
    """The bearer token that may do everything."""

    __slots__ = ()

    @classmethod
    def load_or_create(cls, state_dir: Path) -> AdminToken:
        """The token in ``<state_dir>/admin.token``, made there (mode 0600) at the first start.

        Errors: ``StateUnusable`` if it cannot be read or written, is empty, or is open to other users.
        """
        return cls(load_or_create_secret(state_dir / FILE, "token"))


class ServiceToken(Token):
    """What a cloud controller sends to the gateway, and the gateway to it."""

    __slots__ = ()


class Credentials:
    """User names and passwords, as HTTP basic authentication sends them (RFC 7617). Their text is never shown."""

    def __init__(self, accepted: Iterable[tuple[str, str]]) -> None:
        self._accepted = tuple((username, f"{username}:{password}".encode()) for username, password in accepted)

    def __repr__(self) -> str:
        return f"<Credentials [{len(self._accepted)}]>"

    def user(self, authorization: str) -> str | None:
        """Whose this header is; None if nobody's. The time it takes tells neither whose nor how much was right."""
        scheme, _, encoded = authorization.partition(" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return None
        matching = [username for username, secret in self._accepted if hmac.compare_digest(secret, given)]
        return matching[0] if matching and scheme.lower() == "basic" else None


class WrongTokens:
    """How often each source was wrong lately. Knows no clock: callers pass ``now``.

    IPv6 sources count by /64, which is what one customer commonly has.
    """

    def __init__(self) -> None:
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()  # source -> (begin, wrong tokens)

    def wait(self, source: str, now: float) -> float:
        """Seconds for which this source is not listened to; 0 if it is."""
        begin, count = self._windows.get(_key(source), (now, 0))
        return max(0.0, begin + WINDOW - now) if count >= MOST_WRONG else 0.0

    def add(self, source: str, now: float) -> None:
        """Count one wrong token."""
        key = _key(source)
        begin, count = self._windows.get(key, (now, 0))
        if now - begin >= WINDOW:
            begin, count = now, 0
        self._windows[key] = (begin, count + 1)
        self._windows.move_to_end(key)
        if len(self._windows) > MOST_SOURCES:
            self._windows.popitem(last=False)


def _key(source: str) -> str:
    address = ipaddress.ip_address(source.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return source
