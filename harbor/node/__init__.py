"""The node: the only writer of what is leased and who serves it."""

from harbor.node.feed import EventFeed
from harbor.node.node import Node

__all__ = ["EventFeed", "Node"]
