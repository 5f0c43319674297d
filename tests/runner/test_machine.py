"""What is asked of the machine: programs, free ports, who listens, health checks."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from harbor.client import Place, Unreachable
from harbor.runner import ports as ports_module
from harbor.runner.health import Check, passes
from harbor.runner.listening import Listener, listeners, sockets_of
from harbor.runner.node import Leased, backend_id, local_address
from harbor.runner.ports import Ports, is_free
from harbor.runner.programs import CannotStart, find
from support.sockets import address_of, datagrams, listening


def test_a_program_is_found_as_a_shell_finds_it(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert find("tool", {"PATH": str(tmp_path)}) == str(tool)
    assert find(str(tool), {}) == str(tool)
    assert find("sh", {}).endswith("/sh")


@pytest.mark.parametrize(
    ("name", "code", "advice"),
    [
        ("nodejsx", 127, "there is no program 'nodejsx' in PATH; did you mean nodejs?"),
        ("zzzzzz", 127, "there is no program 'zzzzzz' in PATH"),
        ("script", 127, "but there is one in this folder: write ./script"),
        ("./script", 126, "'./script' is not executable; chmod +x ./script"),
        ("./nothing", 127, "there is no file './nothing'; the command is looked for from "),
        (".//", 126, "'.//' is a folder"),
        ("node app.js", 127, "no shell is involved: write sh -c 'node app.js'"),
        ("", 127, "begins with an empty word"),
    ],
)
def test_a_program_that_is_not_there_is_told_with_what_would_work(
    name: str, code: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("script").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nodejs").touch(0o755)
    with pytest.raises(CannotStart) as caught:
        find(name, {"PATH": str(tmp_path / "bin")})
    assert advice in caught.value.message
    assert caught.value.exit_code == code


def test_ports_are_outside_of_what_kernel_and_node_give_away() -> None:
    pool = Ports([range(30_000, 32_768), range(10_000, 29_000)])
    taken = [pool.take() for _ in range(50)]
    assert len(set(taken)) == 50
    assert all(29_000 <= port < 30_000 for port in taken)


def test_a_port_in_use_is_not_free_whatever_address_and_protocol() -> None:
    for family, kind, host in (
        (socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1"),
        (socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.2"),
        (socket.AF_INET6, socket.SOCK_STREAM, "::1"),
    ):
        with socket.socket(family, kind) as sock:
            sock.bind((host, 0))
            if kind == socket.SOCK_STREAM:
                sock.listen()
            assert not is_free(sock.getsockname()[1])


def test_a_port_that_is_given_back_is_given_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports_module, "_lowest_ephemeral", lambda: ports_module.LOWEST + 1)
    pool = Ports()
    if not is_free(ports_module.LOWEST):
        pytest.skip("somebody has that port")
    assert pool.take() == ports_module.LOWEST
    with pytest.raises(Exception, match="no free port was found"):
        pool.take()
    pool.give_back([ports_module.LOWEST])
    assert pool.take() == ports_module.LOWEST


def test_who_listens_is_seen_without_connecting() -> None:
    with listening() as tcp, datagrams() as udp, listening("::1") as tcp6:
        mine = sockets_of([os.getpid()])
        for sock, protocol in ((tcp, "tcp"), (udp, "udp"), (tcp6, "tcp")):
            host, port = address_of(sock)
            (found,) = [one for one in listeners(protocol) if (one.host, one.port) == (host, port)]
            assert found.inode in mine
    assert sockets_of([2**22 + 1]) == set()


@pytest.mark.parametrize(
    ("listens_on", "asked", "reached"),
    [
        ("0.0.0.0", "10.0.0.5", True),
        ("::", "10.0.0.5", True),
        ("10.0.0.5", "10.0.0.5", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "10.0.0.5", False),
        ("127.0.0.1", "127.0.0.2", False),
        ("10.0.0.5", "127.0.0.1", False),
        ("10.0.0.5", "203.0.113.9", True),  # behind a router that translates
        ("10.0.0.5", "app.example", True),
        ("127.0.0.1", "app.example", False),
    ],
)
def test_a_listener_is_reached_where_it_is_bound(listens_on: str, asked: str, reached: bool) -> None:
    assert Listener("tcp", listens_on, 80, "1").is_reached_at(asked) is reached


def test_the_address_of_this_machine_is_the_one_that_reaches_the_node() -> None:
    assert local_address(Place("http://harbor", Path("/x"))) == "127.0.0.1"
    assert local_address(Place("http://127.0.0.1:7070")) == "127.0.0.1"
    assert local_address(Place("http://[::1]:7070")) == "::1"
    with pytest.raises(Unreachable, match="is not reached from here"):
        local_address(Place("http://nonesuch.invalid:7070"))


def test_backends_are_named_as_register_names_them() -> None:
    assert backend_id("127.0.0.1", 8080) == "127.0.0.1-8080"
    assert backend_id("::1", 8080) == "1-8080"


@pytest.mark.parametrize("text", ["", "http", "exec:", "/a b", "/ä", "exec:a | b", "exec:'"])
def test_a_check_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"use tcp|blanks|shell|quote"):
        Check.parse(text)


def test_a_check_looks_at_the_first_service_that_it_can() -> None:
    game, web, dns = Leased("game", "udp", 1, 30), Leased("web", "tcp", 2, 30), Leased("dns", "both", 3, 30)
    assert Check.parse("exec:true").subject([game, web]) is game
    assert Check.parse("tcp").subject([game, web]) is web
    assert Check.parse("/").subject([game, dns]) is dns
    assert Check.parse("/").subject([game]) is None


async def look(check: str, port: int) -> bool:
    own = {"PORT": str(port)}
    return await passes(
        Check.parse(check), "127.0.0.1", port, lambda name: find(name, os.environ), dict(os.environ) | own, own,
        lambda data: True,
    )  # fmt: skip


async def test_a_tcp_check_wants_a_connection() -> None:
    with listening() as sock:
        port = address_of(sock).port
        assert await look("tcp", port)
    assert not await look("tcp", port)


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.0 302 Found\r\n\r\n", True),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", False),
        (b"HTTP/1.1 503 Unavailable\r\n\r\n", False),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", False),
        (b"HTTP/1.1\r\n", False),
        (b"HTTP/1.1 abc\r\n", False),
        (b"x" * 1_000_000, False),
        (b"", False),
    ],
)
async def test_an_http_check_wants_a_good_answer(answer: bytes, well: bool) -> None:
    heads = []

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    try:
        assert await look("/healthz?a=1", server.sockets[0].getsockname()[1]) is well
    finally:
        server.close()
    assert heads[0].startswith(b"GET /healthz?a=1 HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_B08_a_server_that_never_answers_is_not_waited_for() -> None:
    with listening() as sock:
        assert not await look("/", address_of(sock).port)


async def test_a_command_checks_by_its_exit_code_and_knows_the_port(tmp_path: Path) -> None:
    assert await look(f"exec:sh -c 'test $PORT = 4711 && test {os.getpid()} -gt 0'", 4711)
    assert not await look("exec:false", 1)
    assert not await look("exec:sh -c 'sleep 600 & sleep 600'", 1)
