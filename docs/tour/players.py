"""Players of Teeworlds 0.7, as far as the network knows them: they join, play, and join anew when they hear nothing.

python3 players.py HOST PORT HOW_MANY    says where they are, whenever all of them are at one server
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time

TOKEN, CONNECT, ACCEPT = b"\x05", b"\x01", b"\x02"  # messages that control a connection
ANY = b"\xff" * 4  # the token of who was given none yet
INFO = b"\xff\xff\xff\xffinf3"  # what a server says of itself, when asked by
ASK = b"\xff\xff\xff\xffgie3\x05"
BEAT = 0.1  # seconds between two datagrams of a player
HEARD: dict[str, float] = {}  # when a server was heard last, by its name
PATIENCE = 0.5  # seconds without an answer after which a player joins anew; the real game waits for ten


class Player(asyncio.DatagramProtocol):
    """One player with a socket, and thus a flow, of its own."""

    def __init__(self) -> None:
        self.mine = os.urandom(4)
        self.join()

    def join(self) -> None:
        self.theirs, self.server, self.heard = ANY, "", time.monotonic()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def beat(self) -> None:
        if time.monotonic() - self.heard > PATIENCE:
            self.join()
        if self.theirs == ANY:
            self.control(TOKEN)
        else:
            self.transport.sendto(b"\x21" + self.theirs + self.mine + ASK)

    def control(self, message: bytes) -> None:
        self.transport.sendto(b"\x04\x00\x00" + self.theirs + message + self.mine.ljust(512, b"\0"))

    def datagram_received(self, data: bytes, sender: object) -> None:
        self.heard = time.monotonic()
        if data[7:8] == TOKEN:
            self.theirs = data[8:12]
            self.control(CONNECT)
        elif data[9:].startswith(INFO):
            _version, name, *_ = data[9 + len(INFO) + 1 :].split(b"\0")
            self.server = name.decode()
            HEARD[self.server] = self.heard

    def error_received(self, exc: OSError) -> None:
        pass  # nobody is there at the moment


async def main(host: str, port: str, count: str) -> None:
    loop = asyncio.get_running_loop()
    players = [
        (await loop.create_datagram_endpoint(Player, remote_addr=(host, int(port))))[1] for _ in range(int(count))
    ]
    told, begun = "", time.monotonic()
    for number in itertools.count():
        players[number % len(players)].beat()
        await asyncio.sleep(BEAT / len(players))
        servers = {player.server for player in players}
        if len(servers) == 1 and servers.isdisjoint({"", told}):
            silence = time.monotonic() - HEARD.get(told, begun)
            (told,) = servers
            print(f"{count} players at {told}, after {silence:.1f} s", flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        pass
