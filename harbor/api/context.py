"""What operations are given beside their parameters: the node, who asks, and under which key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, cast

from fastapi import Depends, Header, Request

from harbor.errors import Invalid

if TYPE_CHECKING:
    from harbor.node import Node

LONGEST_KEY: Final = 255  # what clients send is a UUID; keys are stored with the reply


async def _node(request: Request) -> Node:
    return cast("Node", request.app.state.node)


async def _actor(request: Request) -> str:
    return str(request.scope["harbor.actor"])


async def _key(
    idempotency_key: Annotated[str | None, Header(description="answers a repeated request as the first time")] = None,
) -> str | None:
    key = idempotency_key
    if key is not None and (not key or len(key) > LONGEST_KEY or not key.isascii() or not key.isprintable()):
        raise Invalid(f"Idempotency-Key must be 1 to {LONGEST_KEY} printable ASCII characters", code="invalid")
    return key


ActingNode = Annotated["Node", Depends(_node)]
Actor = Annotated[str, Depends(_actor)]
IdempotencyKey = Annotated[str | None, Depends(_key)]
