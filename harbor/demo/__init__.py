"""A node to play with: three services, sample backends that say who answered, and a live view of what happens."""

from harbor.demo.run import run

__all__ = ["run"]
