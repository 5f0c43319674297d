"""What the gateway offers: the one kind of service that a node has, as a cloud controller lists it."""

from __future__ import annotations

from typing import Any, Final

from harbor.policy.environment import LABEL
from harbor.policy.naming import PLANS

VERSION: Final = LABEL.partition("-")[2]
DESCRIPTION: Final = "External port mapping service"  # as the first Harbor was listed
PROVIDER: Final = "core"
# The plan of the first Harbor, and the default: the name of the service decides what it is.
FREE: Final = "free"
OFFERED_PLANS: Final = (FREE, *PLANS)
TAGS: Final = ("harbor", "port", "tcp", "udp")


def offering(url: str, *, active: bool) -> dict[str, Any]:
    """What a cloud controller is told of the gateway that it reaches at ``url``."""
    body = {
        "label": LABEL,
        "url": url,
        "supported_versions": [VERSION],
        "version_aliases": {"current": VERSION},
        "active": active,
    }
    if not active:
        return body
    return body | {
        "description": DESCRIPTION,
        "provider": PROVIDER,
        "plans": list(OFFERED_PLANS),
        "default_plan": FREE,
        "tags": list(TAGS),
    }
