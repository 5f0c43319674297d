"""The sockets of the API: loopback unless there is TLS, and a Unix socket for the node's own user."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harbor.errors import Invalid, PortTaken, StateUnusable

if TYPE_CHECKING:
    from harbor.config import Api

FILE: Final = "harbor.sock"
BACKLOG: Final = 512
LONGEST_PATH: Final = 107  # sun_path of Linux has 108 bytes, one of them the closing zero


def tcp_listener(api: Api) -> socket.socket:
    """The listening socket of ``api.listen``.

    Closing: the caller owns it.
    Errors: ``Invalid`` (``api_needs_tls``) for an address that others can reach without TLS; ``PortTaken``.
    """
    address = ipaddress.ip_address(api.address.host)
    if not address.is_loopback and api.cert is None:
        raise Invalid(
            f"api.listen: {api.listen} can be reached from other machines, so it needs TLS: set api.cert and api.key",
            code="api_needs_tls",
        )
    listener = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by what is accepted: head and body of a reply leave in two writes, and waiting for the ACK of the
        # first costs 40 ms. asyncio sets it only on sockets that were made with an explicit protocol.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(api.address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        what = "in use by another program" if exc.errno == errno.EADDRINUSE else exc.strerror
        raise PortTaken(f"api.listen: {api.listen} is not available: {what}") from exc
    return listener


def unix_listener(state_dir: Path) -> socket.socket:
    """The listening socket ``<state_dir>/harbor.sock``, mode 0600; one left behind by a dead node is replaced.

    Closing: the caller owns it and removes the file.
    Errors: ``StateUnusable`` if a live node answers there, if something else is in the way, or the path is too long.
    """
    path = state_dir / FILE
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise StateUnusable(f"{path}: longer than the {LONGEST_PATH} bytes that a Unix socket's path may have")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        _bind_private(listener, path)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        raise StateUnusable(f"{path}: {exc.strerror}") from exc
    except StateUnusable:
        listener.close()
        raise
    return listener


def _clear(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise StateUnusable(f"{path}: something that is not a socket is in the way; remove it")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError:
            pass
    raise StateUnusable(f"{path}: a node is running there already; one state directory serves one node")


def _bind_private(listener: socket.socket, path: Path) -> None:
    """Bind so that the file never exists with a wider mode than 0600."""
    before = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
    finally:
        os.umask(before)
