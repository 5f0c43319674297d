"""What peers are told: configurations that forward what was asked, one worker each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.peers import PEERS, Forward, Place
from benchmarks.peers.caddy import Caddy
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.haproxy import HAProxy
from benchmarks.peers.harbor import configuration
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.python import PProxy, Streams
from benchmarks.peers.traefik import Traefik
from harbor.config import parse

TCP = Forward("tcp", 20001, ("10.91.2.2", 4001))
TLS = Forward("tcp", 20004, ("10.91.2.2", 4001), front="tls")
WEB = Forward("tcp", 20005, ("10.91.2.2", 4003), front="https")
UDP = Forward("udp", 20002, ("10.91.2.2", 4002))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, 0, "10.91.1.1", spare=(Forward("tcp", 20003, ("10.91.2.2", 4001)),))


def test_haproxy_has_one_section_for_each_port(place: Place) -> None:
    text = HAProxy().files(place, [TCP])["haproxy.cfg"]
    assert "nbthread 1\n" in text
    assert text.endswith("\nlisten tcp20001\n    bind 10.91.1.1:20001\n    server backend0 10.91.2.2:4001\n")


def test_nginx_has_one_server_for_each_port(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Nginx, "_module", lambda self: None)
    text = Nginx().files(place, [TCP, UDP])["nginx.conf"]
    assert "worker_processes 1;" in text
    assert "server { listen 10.91.1.1:20001 backlog=4096; proxy_pass tcp20001; }" in text
    assert "server { listen 10.91.1.1:20002 udp " in text
    assert text.count("{") == text.count("}")


def test_haproxy_ends_tls_and_reads_http_where_that_is_asked(place: Place) -> None:
    text = HAProxy().files(place, [TLS, WEB])["haproxy.cfg"]
    secure = f"ssl crt {place.certificate} ssl-min-ver TLSv1.3\n"
    assert f"    bind 10.91.1.1:20004 {secure}    server" in text
    assert f"    bind 10.91.1.1:20005 {secure}    mode http\n" in text


def test_nginx_ends_tls_in_its_streams_and_reads_http_in_a_section_of_its_own(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Nginx, "_module", lambda self: None)
    streams, web = Nginx().files(place, [TLS, WEB])["nginx.conf"].split("http {")
    assert f"listen 10.91.1.1:20004 backlog=4096 ssl; ssl_certificate {place.certificate};" in streams
    assert "20005" not in streams
    assert "server { listen 10.91.1.1:20005 backlog=4096 ssl;" in web
    assert "proxy_pass http://tcp20005;" in web
    assert "http {" not in Nginx().files(place, [TCP])["nginx.conf"]


def test_caddy_has_a_server_with_the_certificate_for_each_port(place: Place) -> None:
    apps = json.loads(Caddy().files(place, [WEB])["caddy.json"])["apps"]
    assert apps["http"]["servers"]["tcp20005"]["listen"] == ["10.91.1.1:20005"]
    assert apps["tls"]["certificates"]["load_files"][0]["certificate"] == str(place.certificate)


def test_envoy_finds_a_cluster_for_every_listener(place: Place) -> None:
    files = {name: json.loads(text) for name, text in Envoy().files(place, [TCP, UDP]).items()}
    clusters = [cluster["name"] for cluster in files["cds.json"]["resources"]]
    listeners = [listener["name"] for listener in files["lds.json"]["resources"]]
    assert clusters == listeners == ["tcp20001", "udp20002"]
    watched = files["envoy.json"]["dynamic_resources"]["lds_config"]["path_config_source"]["path"]
    assert watched == str(place.scratch / "lds.json")


def test_traefik_knows_the_ports_of_later_but_not_their_routes(place: Place) -> None:
    files = {name: json.loads(text) for name, text in Traefik().files(place, [TCP, UDP]).items()}
    assert list(files["static.yml"]["entryPoints"]) == ["tcp20001", "udp20002", "tcp20003"]
    assert list(files["dynamic.yml"]["tcp"]["routers"]) == ["tcp20001"]
    assert list(files["dynamic.yml"]["udp"]["routers"]) == ["udp20002"]


def test_harbor_takes_its_configuration(place: Place) -> None:
    config = parse(json.dumps(configuration(place, place.scratch)), "harbor.yml")
    assert config.listen.private == "10.91.1.1"
    assert config.ports.spans == ((20_000, 29_999),)


def test_the_baselines_take_theirs(place: Place) -> None:
    assert PProxy().files(place, [TCP])["listen"] == "tunnel{10.91.2.2:4001}://10.91.1.1:20001"
    assert Streams().files(place, [UDP])["forwards"] == "udp 10.91.1.1 20002 10.91.2.2 4002"


def test_peers_have_names_of_their_own_and_harbor_comes_first() -> None:
    names = [peer.name for peer in PEERS]
    assert len(set(names)) == len(names)
    assert names[0] == "harbor"
