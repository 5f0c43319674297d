"""``harbor https-proxy`` as an app's container runs it: its certificates, its signals, what it says."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from support.backends import Backend
from support.certificates import Issued, issue
from support.sockets import receive_all, receive_exactly
from support.waiting import eventually

PATIENCE: Final = 15.0
HARBOR: Final = Path(sys.executable).with_name("harbor")


def read_head(conn: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = conn.recv(1)
        if not byte:
            raise ConnectionError(f"ended after {head!r}")
        head += byte
    return head


def web(conn: socket.socket) -> None:
    """An app that tells what it was asked."""
    with contextlib.suppress(OSError):
        while True:
            said = read_head(conn)
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said)


@pytest.fixture
def app() -> Iterator[Backend]:
    with contextlib.closing(Backend(web)) as backend:
        yield backend


class Proxy:
    """A running proxy. Closing: ``close()``."""

    def __init__(self, folder: Path, app: Backend, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._log = (folder / "log").open("w+b")
        self.process = subprocess.Popen(
            [
                HARBOR, "https-proxy", "--listen", f"127.0.0.1:{self.port}",
                "--to", f"{app.address.host}:{app.address.port}", *options,
            ],
            cwd=folder,
            stderr=self._log,
        )  # fmt: skip

    def said(self) -> str:
        return (Path(f"/proc/self/fd/{self._log.fileno()}")).read_text()

    def await_word(self, word: str) -> None:
        eventually(lambda: word in self.said(), what=f"{word!r} is said")

    def connect(self, *trusted: Issued) -> ssl.SSLSocket:
        context = ssl.create_default_context()
        for one in trusted:
            context.load_verify_locations(one.certificate)
        raw = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        return context.wrap_socket(raw, server_hostname="app.test")

    def shows(self, issued: Issued) -> bool:
        try:
            with self.connect(issued):
                return True
        except ssl.SSLCertVerificationError:
            return False

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()


def put(folder: Path, stem: str, issued: Issued) -> None:
    """What an app brings along: a certificate and its key, each replaced whole."""
    for suffix, content in ((".key", issued.file.read_bytes()), (".crt", issued.certificate.read_bytes())):
        draft = folder / f"draft{suffix}"
        draft.write_bytes(content)
        draft.chmod(0o600)
        os.replace(draft, folder / f"{stem}{suffix}")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    (tmp_path / "app" / "certs").mkdir(parents=True)
    return tmp_path


def test_the_app_gets_http_and_learns_that_it_was_https(scratch: Path, app: Backend) -> None:
    issued = issue(scratch / "made", "app.test")
    put(scratch / "app" / "certs", "harbor", issued)
    with contextlib.closing(Proxy(scratch / "app", app)) as proxy:
        proxy.await_word("https on")
        with proxy.connect(issued) as client:
            client.sendall(b"GET /x HTTP/1.1\r\nHost: app.test\r\n\r\n")
            answer = read_head(client)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"\r\nx-forwarded-proto: https\r\n" in read_head(client).lower()


@pytest.mark.parametrize(("network", "heard"), [("127.0.0.0/8", b"192.0.2.7, 127.0.0.1"), ("10.0.0.0/8", b"127.0.0.1")])
def test_a_proxy_in_front_is_believed_if_it_is_named(scratch: Path, app: Backend, network: str, heard: bytes) -> None:
    issued = issue(scratch / "made", "app.test")
    put(scratch / "app" / "certs", "harbor", issued)
    with contextlib.closing(Proxy(scratch / "app", app, "--trusted-proxies", network)) as proxy:
        proxy.await_word("https on")
        with proxy.connect(issued) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
            read_head(client)
            assert b"\r\nX-Forwarded-For: %b\r\n" % heard in read_head(client)


def test_a_network_that_is_none_is_refused_with_words(scratch: Path, app: Backend) -> None:
    put(scratch / "app" / "certs", "harbor", issue(scratch / "made", "app.test"))
    with contextlib.closing(Proxy(scratch / "app", app, "--trusted-proxies", "the-cdn")) as proxy:
        assert proxy.process.wait(PATIENCE) == 1
        assert "the-cdn" in proxy.said()
        assert "10.0.0.0/8" in proxy.said()


def test_the_certificate_of_the_service_goes_before_that_of_the_app(scratch: Path, app: Backend) -> None:
    general, own = issue(scratch / "made", "app.test"), issue(scratch / "made", "app.test")
    put(scratch / "app" / "certs", "harbor", general)
    put(scratch / "app" / "certs", "my-https", own)
    with contextlib.closing(Proxy(scratch / "app", app, "--service", "my-https")) as proxy:
        proxy.await_word("https on")
        assert proxy.shows(own)
        assert not proxy.shows(general)


def test_D11_a_replaced_certificate_is_shown_and_a_bad_one_is_not(scratch: Path, app: Backend) -> None:
    first, second = issue(scratch / "made", "app.test"), issue(scratch / "made", "app.test")
    folder = scratch / "app" / "certs"
    put(folder, "harbor", first)
    with contextlib.closing(Proxy(scratch / "app", app)) as proxy:
        proxy.await_word("https on")
        with proxy.connect(first) as old:
            put(folder, "harbor", second)
            proxy.process.send_signal(signal.SIGHUP)
            eventually(lambda: proxy.shows(second))
            old.sendall(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            assert read_head(old).startswith(b"HTTP/1.1 200 ")
        (folder / "harbor.crt").write_bytes(b"nonsense")
        proxy.await_word("what was shown before stays")
        assert proxy.shows(second)


def test_files_that_say_the_same_again_are_no_news(scratch: Path, app: Backend) -> None:
    issued, folder = issue(scratch / "made", "app.test"), scratch / "app" / "certs"
    put(folder, "harbor", issued)
    with contextlib.closing(Proxy(scratch / "app", app)) as proxy:
        proxy.await_word("https on")
        put(folder, "harbor", issued)
        proxy.process.send_signal(signal.SIGHUP)
        eventually(lambda: proxy.shows(issued))
        (folder / "harbor.crt").write_bytes(b"nonsense")
        proxy.await_word("what was shown before stays")
        assert "another certificate" not in proxy.said()


@pytest.mark.parametrize(("options", "chosen"), [((), "http/1.1"), (("--bytes",), None)])
def test_D14_what_it_reads_along_it_offers(
    scratch: Path, app: Backend, options: tuple[str, ...], chosen: str | None
) -> None:
    put(scratch / "app" / "certs", "harbor", issue(scratch / "made", "app.test"))
    with contextlib.closing(Proxy(scratch / "app", app, *options)) as proxy:
        proxy.await_word("https on")
        context = ssl._create_unverified_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with context.wrap_socket(socket.create_connection(("127.0.0.1", proxy.port), PATIENCE)) as client:
            assert client.selected_alpn_protocol() == chosen


def test_forwarding_bytes_it_leaves_them_as_they_are(scratch: Path) -> None:
    issued = issue(scratch / "made", "app.test")
    put(scratch / "app" / "certs", "harbor", issued)
    with (
        contextlib.closing(Backend()) as echo,
        contextlib.closing(Proxy(scratch / "app", echo, "--bytes")) as proxy,
    ):
        proxy.await_word("https on")
        with proxy.connect(issued) as client:
            client.sendall(b"\x00\x01 no HTTP at all")
            assert receive_exactly(client, 17) == b"\x00\x01 no HTTP at all"


def test_at_SIGTERM_the_request_under_way_is_answered_and_then_it_ends(scratch: Path, app: Backend) -> None:
    issued = issue(scratch / "made", "app.test")
    put(scratch / "app" / "certs", "harbor", issued)
    with contextlib.closing(Proxy(scratch / "app", app)) as proxy:
        proxy.await_word("https on")
        with proxy.connect(issued) as client:
            client.sendall(b"GET / HTTP/1.1\r\n")
            proxy.process.send_signal(signal.SIGTERM)
            eventually(lambda: not _listens(proxy.port))
            client.sendall(b"Host: app.test\r\nConnection: close\r\n\r\n")
            assert receive_all(client).startswith(b"HTTP/1.1 200 ")
        assert proxy.process.wait(PATIENCE) == 0


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("prepare", "advice"),
    [
        ("no folder", "has no folder certs or cert"),
        ("empty folder", "there is no my-https.crt and my-https.key or harbor.crt and harbor.key"),
        ("half a pair", "put both there"),
    ],
)
def test_without_a_certificate_it_says_what_would_work(scratch: Path, app: Backend, prepare: str, advice: str) -> None:
    folder = scratch / "app"
    if prepare == "no folder":
        (folder / "certs").rmdir()
    if prepare == "half a pair":
        put(folder / "certs", "harbor", issue(scratch / "made", "app.test"))
        (folder / "certs" / "harbor.key").unlink()
    with contextlib.closing(Proxy(folder, app, "--service", "my-https")) as proxy:
        assert proxy.process.wait(PATIENCE) == 1
        assert advice in proxy.said()


@pytest.mark.parametrize("where", ["0", "65536", "x", "localhost:80", "1.2.3.4", "1.2.3.4:"])
def test_a_place_that_is_none_is_wrong_use(scratch: Path, where: str) -> None:
    done = subprocess.run(
        [HARBOR, "https-proxy", "--listen", where, "--to", "8080"],
        cwd=scratch, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "use a port" in done.stderr
