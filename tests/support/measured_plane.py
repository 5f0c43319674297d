"""A data plane in a process of its own, for counting what a session costs.

Usage: python measured_plane.py BACKEND_HOST BACKEND_PORT [POLICY]. Prints the port it listens on; ends at the end of
stdin. A line on stdin is answered with how many blocks Python has allocated and, under -X tracemalloc, how many bytes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import sys
import tracemalloc

import uvloop

from harbor.dataplane.budget import Descriptors, raise_limit
from harbor.dataplane.plane import DataPlane
from harbor.model import Address, Opening, Policy, Protocol, Route


class Nobody:
    """An observer that nobody should need."""

    def backend_failed(self, service_id: str, backend_id: str, address: Address, detail: str) -> None:
        print(f"{backend_id} failed: {detail}", file=sys.stderr)


async def serve(backend: Address, policy: Policy) -> None:
    raise_limit()
    loop = asyncio.get_running_loop()
    plane = DataPlane(loop, Nobody(), descriptors=Descriptors.of_process())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    plane.bind(Opening("s1", "measured", Protocol.TCP, "127.0.0.1", port, policy))
    plane.set_backends("s1", [Route("b1", backend)])
    plane.open("s1")
    gc.collect()
    gc.freeze()
    ended = loop.create_future()

    def on_stdin() -> None:
        if os.read(sys.stdin.fileno(), 64):
            gc.collect()
            print(sys.getallocatedblocks(), tracemalloc.get_traced_memory()[0], flush=True)
        elif not ended.done():
            ended.set_result(None)

    loop.add_reader(sys.stdin.fileno(), on_stdin)
    print(port, flush=True)
    await ended
    plane.close()


if __name__ == "__main__":
    given = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    uvloop.run(serve(Address(sys.argv[1], int(sys.argv[2])), Policy().with_overrides(given)))
