"""What the demo is made of: on whichever ports are free, and gone after it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from harbor.demo import stage
from harbor.errors import Refused
from support.port_block import open_ports, port_block
from support.sockets import address_of, connected, listening, receive_all


async def test_taken_ports_are_avoided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with port_block(1) as taken, port_block(3) as free, listening(port=taken[0]), listening() as api:
        monkeypatch.setattr(stage, "RANGES", (f"{taken[0]}", f"{free[0]}-{free[-1]}"))
        monkeypatch.setattr(stage, "API", (str(address_of(api)), "127.0.0.1:0"))
        async with stage.staged(tmp_path) as made:
            assert sorted(made.ports.values()) == list(free)
            assert made.running.api.address is not None
            assert made.running.api.address.port != address_of(api).port
            assert len(open_ports(free)) == 3
        assert open_ports(free) == {}


async def test_no_free_port_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with port_block(2) as too_few:
        monkeypatch.setattr(stage, "RANGES", (f"{too_few[0]}-{too_few[-1]}",))
        monkeypatch.setattr(stage, "API", ("127.0.0.1:0",))
        with pytest.raises(Refused, match="no free port is left"):
            async with stage.staged(tmp_path):
                pass
        assert open_ports(too_few) == {}


@pytest.mark.parametrize("said", [b"", b"no HTTP", b"\r\n\r\n", b"\0" * 20_000, b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_sample_survives_what_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    def tell(port: int) -> bytes:
        with connected(made.samples[0].address._replace(port=port)) as client:
            client.sendall(said)
            client.shutdown(1)
            try:
                return receive_all(client)
            except ConnectionResetError:
                return b""

    with port_block(3) as free:
        monkeypatch.setattr(stage, "RANGES", (f"{free[0]}-{free[-1]}",))
        monkeypatch.setattr(stage, "API", ("127.0.0.1:0",))
        async with stage.staged(tmp_path) as made:
            for name in ("hello", "both-dns"):
                await asyncio.to_thread(tell, made.ports[name])
            said = b"GET / HTTP/1.1\r\n\r\n"
            assert (await asyncio.to_thread(tell, made.ports["hello"])).endswith(b"hello from hello-2\n")
