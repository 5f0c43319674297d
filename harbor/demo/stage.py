"""What the demo is made of: a node in a scratch directory, with its services leased and its samples registered."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

from harbor.config import Api, Backends, Config, Defaults, Node, Ports
from harbor.daemon import running_node
from harbor.daemon.run import RunningNode
from harbor.demo import guide, samples
from harbor.demo.samples import Sample
from harbor.demo.view import Moment
from harbor.errors import HarborError, PortTaken, Refused
from harbor.model import Event, ServiceWish, SessionQuery

# Each is tried in this order: another demo, or a real node, may have the first.
RANGES: Final = ("30000-32767", "20000-29999")
API: Final = ("127.0.0.1:7070", "127.0.0.1:0")
DRAIN: Final = 0.5  # seconds that live sessions get at the end: nobody waits for a demo
UDP_TIMEOUT: Final = 20.0  # seconds; long enough to be seen on the screen, short enough to be seen to end
ACTOR: Final = "demo"


@dataclass(frozen=True, slots=True)
class Stage:
    """The demo as it stands. ``since`` is the id of the last event of its making: what comes later is news."""

    running: RunningNode
    samples: Sequence[Sample]
    ports: Mapping[str, int]
    environment: Path
    since: int

    @property
    def title(self) -> str:
        return f"Harbor demo, API {self.running.api.url}, Ctrl-C ends it. In another terminal:"

    @property
    def tries(self) -> list[guide.Try]:
        return guide.tries(self.ports, self.samples, self.environment)

    def news(self, after: int) -> list[Event]:
        """The events behind ``after``, oldest first."""
        return self.running.node.events.recent(after, sys.maxsize)

    def moment(self) -> Moment:
        node = self.running.node
        services = sorted(node.services(), key=lambda view: view.service.created)
        return Moment(services, node.sessions(SessionQuery())[::-1], self.news(self.since)[::-1])


@asynccontextmanager
async def staged(scratch: Path) -> AsyncIterator[Stage]:
    """The demo, ready to be played with inside the block; all of it ends behind it.

    Errors: a ``HarborError`` if no node can run here.
    """
    async with AsyncExitStack() as stack:
        backends = await stack.enter_async_context(samples.running())
        running = await _leased(stack, scratch)
        node = running.node
        for sample in backends:
            host, port = sample.address
            await node.put_backend(sample.service, sample.name, host=host, port=port, actor=ACTOR)
        token = (node.config.state_dir / "admin.token").read_text().strip()
        environment = scratch / "env"
        environment.write_text(guide.environment(str(running.api.url), token))
        ports = {view.service.name: view.service.port for view in node.services()}
        yield Stage(running, backends, ports, environment, node.events.recent(limit=1)[-1].id)


async def _leased(stack: AsyncExitStack, scratch: Path) -> RunningNode:
    """A node that has leased the services, on the first ports that are to be had."""
    refusals: list[HarborError] = []
    for attempt, (ranges, listen) in enumerate(product(RANGES, API)):
        async with AsyncExitStack() as trying:
            try:
                config = _config(scratch / f"node-{attempt}", ranges, listen)
                running = await trying.enter_async_context(running_node(config, drain=DRAIN))
                for name in samples.KINDS:
                    await running.node.create_service(ServiceWish(name), actor=ACTOR)
            except (PortTaken, Refused) as error:
                refusals.append(error)
            else:
                await stack.enter_async_context(trying.pop_all())
                return running
    raise refusals[-1]


def _config(state_dir: Path, ranges: str, listen: str) -> Config:
    return Config(
        node=Node(id="harbor-demo"),
        state_dir=state_dir,
        ports=Ports(ranges=(ranges,)),
        api=Api(listen=listen),
        backends=Backends(allow=("127.0.0.0/8", "::1/128")),
        defaults=Defaults.model_validate({"udp_timeout": UDP_TIMEOUT}),
    )
