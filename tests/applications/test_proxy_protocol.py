"""PROXY headers as others write and read them: HAProxy, nginx and curl on either side of a port."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from applications.test_tls_passed_through import certificate
from support.app_node import AppNode
from support.needs import lacking
from support.programs import Programs, output_of
from support.waiting import eventually
from support.web import nginx

STREAM_MODULE: Final = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
CLIENT: Final = "127.0.0.9"  # loopback is a network: whoever asks from here is told apart from proxies
RETURNS_CLIENT: Final = (
    'location / {{ return 200 "$proxy_protocol_addr $proxy_protocol_server_port $http_x_forwarded_for"; }}'
)

HAPROXY: Final = """
defaults
  timeout connect 5s
  timeout client 30s
  timeout server 30s
{sections}
"""


def haproxy(servers: Programs, directory: Path, port: int, sections: str) -> None:
    """HAProxy on ``port``."""
    configuration = directory / f"haproxy-{port}.cfg"
    configuration.write_text(HAPROXY.format(sections=sections))
    servers.start("haproxy", "-db", "-f", configuration, port=port)


def asked(port: int, *more: str | Path, scheme: str = "http") -> str:
    """What curl, at ``CLIENT``, is answered."""
    return output_of(
        "curl", "--silent", "--fail", "--max-time", 20, "--interface", CLIENT, *more, f"{scheme}://127.0.0.1:{port}/"
    )


# Harbor tells, others read.


@pytest.mark.parametrize("mode", ["v1", "v2"])
@pytest.mark.parametrize("http", [False, True], ids=["bytes", "http"])
def test_E17_nginx_reads_who_the_client_is(
    node: AppNode, servers: Programs, ports: range, scratch: Path, mode: str, http: bool
) -> None:
    nginx(servers, scratch, ports[0], listening="proxy_protocol", more=RETURNS_CLIENT.format())
    port = node.create(f"to-nginx-{mode}-{http}", ports[0], proxy_protocol=mode, http=http)
    assert asked(port).split() == [CLIENT, str(port), *([CLIENT] if http else [])]


@pytest.mark.parametrize("mode", ["v1", "v2"])
def test_E17_haproxy_reads_who_the_client_is(
    node: AppNode, servers: Programs, ports: range, scratch: Path, mode: str
) -> None:
    answer = 'http-request return status 200 content-type text/plain lf-string "%ci %fp"'
    haproxy(
        servers, scratch, ports[0], f"listen told\n  mode http\n  bind 127.0.0.1:{ports[0]} accept-proxy\n  {answer}"
    )
    port = node.create(f"to-haproxy-{mode}", ports[0], proxy_protocol=mode)
    assert asked(port).split() == [CLIENT, str(port)]


def test_E17_haproxy_reads_the_server_name_of_the_tls_that_ended_at_the_node(
    node: AppNode, servers: Programs, ports: range, scratch: Path
) -> None:
    answer = 'http-request return status 200 content-type text/plain lf-string "%ci %[fc_pp_authority]"'
    haproxy(
        servers, scratch, ports[0], f"listen told\n  mode http\n  bind 127.0.0.1:{ports[0]} accept-proxy\n  {answer}"
    )
    port = node.create("named-https", ports[0], proxy_protocol="v2")
    name = (
        "--insecure",
        "--connect-to",
        f"localhost:443:127.0.0.1:{port}",
        "https://localhost/",
        "--interface",
        CLIENT,
    )
    assert output_of("curl", "--silent", "--fail", *name).split() == [CLIENT, "localhost"]


# Others tell, Harbor reads.


@pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"])
def test_E01_haproxy_says_who_the_client_is(
    node: AppNode, servers: Programs, ports: range, scratch: Path, how: str
) -> None:
    nginx(servers, scratch, ports[0], more='location / { return 200 "$http_x_forwarded_for"; }')
    name = re.sub("[^a-z0-9]", "-", f"from-{how}")
    port = node.create(name, ports[0], accept_proxy=["127.0.0.1"], http=True)
    unique = "  unique-id-format %ci-%ts\n" if "unique" in how else ""
    haproxy(
        servers, scratch, ports[1],
        f"listen front\n  mode tcp\n  bind 127.0.0.1:{ports[1]}\n{unique}  server node 127.0.0.1:{port} {how}\n",
    )  # fmt: skip
    assert asked(ports[1]) == CLIENT


@pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2"])
def test_E10_the_health_checks_of_haproxy_pass(
    node: AppNode, servers: Programs, ports: range, scratch: Path, how: str
) -> None:
    nginx(servers, scratch, ports[0], more='location / { return 200 "$http_x_forwarded_for"; }')
    name = f"checked-by-{how}"
    port = node.create(name, ports[0], accept_proxy=["127.0.0.1"], http=True)
    haproxy(
        servers, scratch, ports[1],
        f"listen front\n  mode tcp\n  bind 127.0.0.1:{ports[1]}\n"
        f"  option httpchk GET /\n  server node 127.0.0.1:{port} {how} check inter 100ms rise 1 fall 1\n",
    )  # fmt: skip
    eventually(lambda: node.service(name)["sessions"]["opened"] >= 5, 20)
    assert asked(ports[1]) == CLIENT
    assert "proxy_header_invalid" not in node.service(name)["closed"]


def test_E01_nginx_says_who_the_client_is(node: AppNode, servers: Programs, ports: range, scratch: Path) -> None:
    if not STREAM_MODULE.exists():
        lacking("nginx has no stream module; on Debian: apt-get install libnginx-mod-stream")
    nginx(servers, scratch, ports[0], more='location / { return 200 "$http_x_forwarded_for"; }')
    port = node.create("from-nginx", ports[0], accept_proxy=["127.0.0.1"], http=True)
    configuration = scratch / "stream.conf"
    configuration.write_text(f"""
load_module {STREAM_MODULE};
daemon off; master_process off; pid {scratch}/stream.pid; error_log stderr;
events {{ worker_connections 64; }}
stream {{ server {{ listen 127.0.0.1:{ports[1]}; proxy_pass 127.0.0.1:{port}; proxy_protocol on; }} }}
""")
    servers.start("nginx", "-p", scratch, "-c", configuration, "-e", "stderr", port=ports[1])
    assert asked(ports[1]) == CLIENT


def test_D16_curl_says_who_it_is_and_goes_on_with_tls(
    node: AppNode, servers: Programs, ports: range, scratch: Path
) -> None:
    nginx(servers, scratch, ports[0], more='location / { return 200 "$http_x_forwarded_for"; }')
    port = node.create("from-curl-https", ports[0], accept_proxy=["127.0.0.0/8"])
    assert asked(port, "--haproxy-protocol", "--insecure", scheme="https") == CLIENT
    assert node.service("from-curl-https")["closed"].keys() <= {"client_closed"}
    refused = output_of("curl", "--silent", "--insecure", f"https://127.0.0.1:{port}/", fails=(35, 56))
    assert refused == ""
    assert node.service("from-curl-https")["closed"]["proxy_header_invalid"] == 1


def test_E17_between_two_haproxies_the_client_stays_who_it_is(
    node: AppNode, servers: Programs, ports: range, scratch: Path
) -> None:
    cert, key = certificate(scratch)
    both = scratch / "both.pem"
    both.write_text(cert.read_text() + key.read_text())
    answer = 'http-request return status 200 content-type text/plain lf-string "%ci %fp"'
    haproxy(
        servers, scratch, ports[0], f"listen told\n  mode http\n  bind 127.0.0.1:{ports[0]} accept-proxy\n  {answer}"
    )
    port = node.create("chain", ports[0], accept_proxy=["127.0.0.1"], proxy_protocol="v2")
    haproxy(
        servers, scratch, ports[1],
        f"listen front\n  mode tcp\n  bind 127.0.0.1:{ports[1]} ssl crt {both}\n"
        f"  server node 127.0.0.1:{port} send-proxy-v2-ssl-cn\n",
    )  # fmt: skip
    assert asked(ports[1], "--cacert", cert, "--insecure", scheme="https").split() == [CLIENT, str(ports[1])]
