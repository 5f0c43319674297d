"""What ties an app to a service: from the binding come the app's credentials and its right to register backends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Binding:
    """One app bound to one service. ``created`` is Unix time.

    ``token_digest`` is the SHA-256 of its token, in hexadecimal: the token itself is kept nowhere. ``origin`` is what
    a platform sent with it; empty for one that was asked for here.
    """

    id: str
    service_id: str
    app: str
    created: float
    token_digest: str
    origin: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BindingView:
    """A binding as the control surfaces show it. ``service`` is the name of the service.

    ``token`` is None if it cannot be given again, because the node's key was replaced since; it is still valid.
    """

    binding: Binding
    service: str
    credentials: Mapping[str, Any]
    token: str | None = field(default=None, repr=False)

    def as_json(self) -> dict[str, Any]:
        """Without the token: lists are looked at, and kept in logs. ``with_token`` is for who is to use it."""
        binding = self.binding
        return {
            "id": binding.id,
            "service": self.service,
            "service_id": binding.service_id,
            "app": binding.app,
            "created": binding.created,
            "credentials": dict(self.credentials),
        }

    def with_token(self) -> dict[str, Any]:
        return self.as_json() | ({} if self.token is None else {"token": self.token})
