"""What every operation is given: the node, and who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request

if TYPE_CHECKING:
    from harbor.node import Node


async def _node(request: Request) -> Node:
    return cast("Node", request.app.state.node)


async def _actor(request: Request) -> str:
    return str(request.scope["harbor.actor"])


ActingNode = Annotated["Node", Depends(_node)]
Actor = Annotated[str, Depends(_actor)]
