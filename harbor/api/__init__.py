"""The control surface over HTTP. The daemon opens the sockets, loads the token and starts an ``ApiServer``."""

from harbor.api.listening import tcp_listener, unix_listener
from harbor.api.server import ApiServer
from harbor.api.tokens import AdminToken

__all__ = ["AdminToken", "ApiServer", "tcp_listener", "unix_listener"]
