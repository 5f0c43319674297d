"""HAProxy as Debian ships it, set up to do what a case wants as far as it can."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from conformance.wish import Lacks, Wish
from harbor.model import Address
from support.programs import Programs

BALANCES: Final = {
    "round_robin": "balance roundrobin",
    "least_sessions": "balance leastconn",
    "source_hash": "balance source\n  hash-type consistent",
}
SENDS: Final = {"off": "", "v1": " send-proxy", "v2": " send-proxy-v2"}
FOREVER: Final = 3600
CONFIGURATION: Final = """\
global
  nbthread 1
  maxconn 4000
defaults
  mode tcp
  timeout connect {connect}
  timeout client {idle}
  timeout server {idle}
  timeout tunnel {idle}
  timeout queue 200ms
  option abortonclose
  option redispatch 1
  retries 3
{lines}
"""


def open_port(wish: Wish, port: int, programs: Programs, directory: Path) -> Address:
    """Start one that serves the wish on ``port``."""
    if wish.udp:
        raise Lacks("HAProxy: UDP")
    lines = "\n".join([*_front(wish, port, directory), *_backends(wish, directory)])
    connect, idle = _milliseconds(wish.connect_timeout), _milliseconds(wish.idle_timeout or FOREVER)
    file = directory / "haproxy.cfg"
    file.write_text(CONFIGURATION.format(connect=connect, idle=idle, lines=lines))
    programs.start("haproxy", "-db", "-f", file, port=port)
    return Address(wish.host, port)


def _front(wish: Wish, port: int, directory: Path) -> Iterator[str]:
    yield "frontend port"
    yield f"  bind {wish.host}:{port}{_tls(wish, directory)}"
    if wish.accept_proxy:
        trusted = " ".join(wish.accept_proxy)
        yield f"  tcp-request connection reject unless {{ src {trusted} }}"
        yield "  tcp-request connection expect-proxy layer4"
    if wish.deny:
        yield f"  tcp-request connection reject if {{ src {' '.join(wish.deny)} }}"
    if wish.allow:
        yield f"  tcp-request connection reject unless {{ src {' '.join(wish.allow)} }}"
    if wish.names:
        yield "  tcp-request inspect-delay 5s"
        yield "  tcp-request content accept if { req.ssl_hello_type 1 }"
        for number, name in enumerate(wish.names):
            yield f"  use_backend named-{number} if {{ req.ssl_sni -i {name} }}"
    yield "  default_backend all"


def _backends(wish: Wish, directory: Path) -> Iterator[str]:
    tls = ""
    if wish.backends_by is not None:
        ca = _file(directory, "backends-by.pem", wish.backends_by.own)
        tls = f" ssl verify required ca-file {ca} verifyhost {wish.backend_name} sni str({wish.backend_name})"
    most = f" maxconn {wish.max_sessions_per_backend}" if wish.max_sessions_per_backend else ""
    yield "backend all"
    yield f"  {BALANCES[wish.balance]}"
    for number, (address, weight) in enumerate(wish.weighted):
        to = f"{address.host}:{address.port}"
        yield f"  server b{number} {to} weight {weight}{most}{SENDS[wish.proxy_protocol]}{tls}"
    for number, address in enumerate(wish.names.values()):
        yield f"backend named-{number}"
        yield f"  server b {address.host}:{address.port}"


def _tls(wish: Wish, directory: Path) -> str:
    if not wish.certificates:
        return ""
    files = [_file(directory, f"{n}.pem", made.key + made.chain) for n, made in enumerate(wish.certificates)]
    words = [" ssl", *(f"crt {file}" for file in files), f"ssl-min-ver TLSv{wish.min_version}"]
    if wish.alpn:
        words.append(f"alpn {','.join(wish.alpn)}")
    if wish.clients_by is not None:
        words.append(f"verify required ca-file {_file(directory, 'ca.pem', wish.clients_by.own)}")
    return " ".join(words)


def _file(directory: Path, name: str, text: str) -> Path:
    (directory / name).write_text(text)
    return directory / name


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms"
