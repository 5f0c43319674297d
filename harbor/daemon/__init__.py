"""The daemon: a node as a process."""

from harbor.daemon.run import running_node, serve

__all__ = ["running_node", "serve"]
