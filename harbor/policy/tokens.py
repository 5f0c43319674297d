"""The tokens of bindings: derived from a key of the node, so that none is ever stored.

A token is ``hb_`` and, in base64url, a handle and its HMAC-SHA-256 under the key. The handle is a digest of what makes
a binding this one, among it the moment of its creation: a binding that is made again has another token. Whoever
knows the key can make the token of a binding again; whoever reads the state finds its SHA-256 only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Final

PREFIX: Final = "hb_"  # so that a token that got somewhere is recognised, by people and by scanners
HANDLE: Final = 12  # bytes; they tell the bindings of a node apart and need not be secret
LONGEST: Final = 128  # characters; ours have 62


class Tokens:
    """The tokens that one key makes."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "<Tokens>"

    def token(self, binding_id: str, service_id: str, created: float) -> str:
        """The token of this binding, always the same one."""
        what = json.dumps([binding_id, service_id, created]).encode()
        handle = hashlib.sha256(what).digest()[:HANDLE]
        return PREFIX + base64.urlsafe_b64encode(handle + self._proof(handle)).decode().rstrip("=")

    def issued(self, token: str) -> bool:
        """Whether this key made the token, for a binding that may be no more: nobody has guessed it."""
        if not token.startswith(PREFIX) or len(token) > LONGEST:
            return False
        text = token.removeprefix(PREFIX)
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(self._proof(raw[:HANDLE]), raw[HANDLE:])

    def _proof(self, handle: bytes) -> bytes:
        return hmac.digest(self._key, handle, "sha256")


def digest(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def is_token_of(token: str, token_digest: str) -> bool:
    """Whether the token has this digest, in a time that does not tell how much of it was right."""
    return hmac.compare_digest(digest(token), token_digest)
