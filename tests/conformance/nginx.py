"""nginx's stream module as Debian ships it, set up to do what a case wants as far as it can."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography import x509

from conformance.wish import Lacks, Wish
from harbor.model import Address
from support.needs import lacking, needs
from support.programs import Programs

STREAM_MODULE: Final = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
BALANCES: Final = {"round_robin": "", "least_sessions": "least_conn;", "source_hash": "hash $remote_addr consistent;"}
FOREVER: Final = 3600
CONFIGURATION: Final = """\
load_module {module};
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
stream {{
{lines}
}}
"""


def open_port(wish: Wish, port: int, programs: Programs, directory: Path) -> Address:
    """Start one that serves the wish on ``port``."""
    needs("nginx")
    if not STREAM_MODULE.exists():
        lacking("nginx has no stream module; on Debian: apt-get install libnginx-mod-stream")
    lines = "\n".join(f"  {line}" for line in [*_upstreams(wish), *_server(wish, port, directory)])
    file = directory / "nginx.conf"
    file.write_text(CONFIGURATION.format(module=STREAM_MODULE, directory=directory, lines=lines))
    kind = "udp" if wish.udp else "tcp"
    programs.start("nginx", "-p", directory, "-c", file, "-e", "stderr", port=port, kind=kind)
    return Address(wish.host, port)


def _upstreams(wish: Wish) -> Iterator[str]:
    if not wish.backends:
        raise Lacks("nginx: an upstream without a server is an error of its configuration")
    most = f" max_conns={wish.max_sessions_per_backend}" if wish.max_sessions_per_backend else ""
    backends = " ".join(f"server {address} weight={weight}{most};" for address, weight in wish.weighted)
    yield f"upstream backends {{ {BALANCES[wish.balance]} {backends} }}"
    if wish.names:
        for number, address in enumerate(wish.names.values()):
            yield f"upstream named-{number} {{ server {address}; }}"
        routes = " ".join(f"{name} named-{number};" for number, name in enumerate(wish.names))
        yield f"map $ssl_preread_server_name $route {{ {routes} default backends; }}"


def _server(wish: Wish, port: int, directory: Path) -> Iterator[str]:
    kinds = [
        *(["udp"] if wish.udp else []), *(["ssl"] if wish.certificates else []),
        *(["proxy_protocol"] if wish.accept_proxy else []),
    ]  # fmt: skip
    yield from _identities(wish, directory)
    yield f"server {{ listen {Address(wish.host, port)} {' '.join(kinds)};"
    yield "ssl_preread on; proxy_pass $route;" if wish.names else "proxy_pass backends;"
    yield f"proxy_connect_timeout {_milliseconds(wish.connect_timeout)};"
    if wish.udp:
        yield f"proxy_timeout {_milliseconds(wish.udp_timeout)}; proxy_buffer_size 64k;"  # else answers end at 16 KiB
        if wish.udp_responses:
            yield f"proxy_requests 1; proxy_responses {wish.udp_responses};"
    else:
        yield f"proxy_half_close on; proxy_timeout {_milliseconds(wish.idle_timeout or FOREVER)};"
    yield from (f"deny {network};" for network in wish.deny)
    yield from (f"allow {network};" for network in wish.allow)
    if wish.allow:
        yield "deny all;"
    yield from (f"set_real_ip_from {network};" for network in wish.accept_proxy)
    if wish.proxy_protocol not in ("off", "v1"):
        raise Lacks(f"nginx: PROXY protocol {wish.proxy_protocol} to backends")
    if wish.proxy_protocol == "v1":
        yield "proxy_protocol on;"
    if wish.certificates:
        yield from _tls(wish, directory)
    if wish.backends_by is not None:
        ca = _file(directory, "backends-by.pem", wish.backends_by.own)
        yield f"proxy_ssl on; proxy_ssl_verify on; proxy_ssl_trusted_certificate {ca};"
        yield f"proxy_ssl_name {wish.backend_name}; proxy_ssl_server_name on;"
    yield "}"


def _identities(wish: Wish, directory: Path) -> Iterator[str]:
    files = [_file(directory, f"{n}.pem", made.key + made.chain) for n, made in enumerate(wish.certificates)]
    if len(files) > 1:
        names = " ".join(f"{_name(made.x509)} {file};" for made, file in zip(wish.certificates, files, strict=True))
        yield f"map $ssl_server_name $identity {{ {names} default {files[0]}; }}"


def _tls(wish: Wish, directory: Path) -> Iterator[str]:
    shown = "$identity" if len(wish.certificates) > 1 else f"{directory}/0.pem"
    yield f"ssl_certificate {shown}; ssl_certificate_key {shown};"
    yield f"ssl_protocols {'TLSv1.2 ' if wish.min_version == '1.2' else ''}TLSv1.3;"
    if wish.alpn:
        yield f"ssl_alpn {' '.join(wish.alpn)};"
    if wish.clients_by is not None:
        yield f"ssl_verify_client on; ssl_client_certificate {_file(directory, 'ca.pem', wish.clients_by.own)};"


def _name(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return str(names.get_values_for_type(x509.DNSName)[0])


def _file(directory: Path, name: str, text: str) -> Path:
    (directory / name).write_text(text)
    return directory / name


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms"
