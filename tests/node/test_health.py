"""Health of backends, as a node lives it: checks and failed dials, what becomes of traffic, and what is told."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from harbor.errors import HarborError
from harbor.model import Address
from harbor.policy.proxy_header import LOCAL, V1_UNKNOWN
from support.backends import Backend, Serve, greeting
from support.datagram_backend import DatagramBackend
from support.running_node import MakeBackend, MakeDatagramBackend, RunningNode, Start
from support.sockets import connected, datagrams, free_port, is_silent
from support.waiting import eventually

OFTEN = {"interval": 0.1, "timeout": 1.0, "rise": 1, "fall": 1}
TCP = {"type": "tcp", **OFTEN}
UDP = {"type": "udp", "send": "ping", **OFTEN}
SELDOM = {"type": "tcp", "interval": 3600.0}


class Switched(Backend):
    """A TCP backend that greets with its name, and with ``well`` when it is."""

    def __init__(self, name: str, port: int = 0) -> None:
        self.well = True
        super().__init__(self._greet, port=port)
        self.name = name.encode()

    def _greet(self, conn: socket.socket) -> None:
        greeting(self.name + (b" well" if self.well else b" sick"))(conn)


WELL = {"type": "exchange", "expect": "well", **OFTEN}


@pytest.fixture
def switched() -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def make(name: str, port: int = 0) -> Switched:
            return stack.enter_context(contextlib.closing(Switched(name, port)))

        yield make


def announced(heard: list[bytes]) -> Serve:
    """Wants a PROXY header first, as a backend that is told of its clients does; then it is well."""

    def serve(conn: socket.socket) -> None:
        data = conn.recv(1 << 10)
        heard.append(data)
        if data in (V1_UNKNOWN, LOCAL):
            conn.sendall(b"well")
            conn.recv(1)

    return serve


@pytest.mark.parametrize(("version", "header"), [("v1", b"PROXY UNKNOWN\r\n"), ("v2", LOCAL)])
def test_a_check_is_announced_as_the_nodes_own_where_backends_want_a_proxy_header(
    node: RunningNode, version: str, header: bytes
) -> None:
    heard: list[bytes] = []
    node.create("web", health=WELL, proxy_protocol=version)
    with contextlib.closing(Backend(announced(heard))) as backend:
        node.put("web", "b", backend.address)
        node.await_backends("web", {"b": "up"})
        assert set(heard) == {header}


def test_a_port_that_answers_for_health_only_is_told_of_nobody(node: RunningNode) -> None:
    heard: list[bytes] = []
    with contextlib.closing(Backend(announced(heard))) as other:
        asking = {**WELL, "send": "how", "port": other.address.port}
        node.create("web", health=asking, proxy_protocol="v2")
        node.put("web", "b", ("127.0.0.1", free_port()))
        eventually(lambda: heard, what="a check")
        assert set(heard) == {b"how"}


def served_by(node: RunningNode, name: str, times: int = 6) -> set[bytes]:
    return {node.exchange(name).split()[0] for _ in range(times)}


# -- Checks decide ----------------------------------------------------------------------------------------------------


def test_B03_B04_a_backend_that_fails_its_checks_gets_nothing_until_it_passes_them_again(
    node: RunningNode, switched: Any
) -> None:
    node.create("web", health=WELL)
    first, second = switched("first"), switched("second")
    node.put("web", "a", first.address)
    node.put("web", "b", second.address)
    eventually(lambda: node.backends("web") == {"a": "up", "b": "up"})
    assert served_by(node, "web") == {b"first", b"second"}
    first.well = False
    node.await_backends("web", {"b": "up", "a": "down"})
    assert served_by(node, "web") == {b"second"}
    failure = node.backend("web", "a").last_failure
    assert failure == f"exchange check of {first.address}: the answer 'first sick' has no 'well' within 1 s"
    first.well = True
    node.await_backends("web", {"b": "up", "a": "up"})
    assert served_by(node, "web") == {b"first", b"second"}
    assert node.events("backend.down") == [f"web: backend a was up: {failure}"]
    assert node.events("backend.up")[-1] == "web: backend a was down: it passes its checks"


def test_B04_a_backend_starts_until_its_first_passed_check(node: RunningNode) -> None:
    node.create("web", health=TCP | {"start_period": 3600.0})
    at = Address("127.0.0.1", free_port())
    node.put("web", "a", at, ttl=3600.0)
    eventually(lambda: node.backend("web", "a").last_failure is not None)
    assert node.backend("web", "a").last_failure == f"tcp check of {at}: Connection refused"
    assert node.backends("web") == {"a": "starting"}
    assert node.service("web").warnings == ()
    with connected(Address("127.0.0.1", node.port("web"))) as client:
        assert client.recv(1) == b""
    with contextlib.closing(Backend(greeting(b"hello"), port=at.port)):
        node.await_backends("web", {"a": "up"})
        assert node.exchange("web") == b"hello"


def test_B04_a_dial_that_fails_takes_down_what_is_checked_and_only_checks_bring_it_back(
    node: RunningNode, backend: MakeBackend
) -> None:
    """The check asks another port, which is well: what cannot be dialled is of no use all the same."""
    well = backend("well").address.port
    node.create("web", health=SELDOM | {"port": well}, fail_timeout=0.2)
    dead = Address("127.0.0.1", free_port())
    node.put("web", "dead", dead)
    node.put("web", "alive", backend("alive").address)
    eventually(lambda: node.backends("web") == {"dead": "up", "alive": "up"})
    assert [node.exchange("web") for _ in range(4)] == [b"alive"] * 4
    assert node.backends("web") == {"alive": "up", "dead": "down"}
    node.put("web", "dead", dead)  # which brings back what is not checked
    with connected(Address("127.0.0.1", node.port("web"))) as client:  # and time passes
        assert client.recv(5) == b"alive"
        assert is_silent(client)
    assert node.backends("web") == {"alive": "up", "dead": "down"}
    node.update("web", health=TCP | {"port": well})
    node.await_backends("web", {"alive": "up", "dead": "up"})


def test_max_fails_dials_within_fail_timeout_take_a_backend_down(node: RunningNode, backend: MakeBackend) -> None:
    node.create("web", max_fails=3, fail_timeout=3600.0)
    node.put("web", "dead", ("127.0.0.1", free_port()))
    node.put("web", "alive", backend("alive").address)
    states = []
    for _ in range(6):
        assert node.exchange("web") == b"alive"
        states.append(node.backends("web")["dead"])
    assert states == ["up"] * 2 + ["down"] * 4  # each time it is its turn: who takes its place keeps his own


def test_B08_a_backend_that_accepts_and_never_answers_delays_no_other(node: RunningNode) -> None:
    well = threading.Event()

    def good(conn: socket.socket) -> None:
        if well.is_set():
            greeting(b"well")(conn)

    def mute(conn: socket.socket) -> None:
        while conn.recv(1 << 16):
            pass

    node.create("web", health=WELL | {"timeout": 300.0})
    with contextlib.closing(Backend(mute)) as hangs, contextlib.closing(Backend(good)) as answers:
        node.put("web", "hangs", hangs.address)
        node.put("web", "answers", answers.address)
        eventually(lambda: node.backends("web") == {"hangs": "starting", "answers": "down"})
        well.set()
        eventually(lambda: node.backends("web") == {"hangs": "starting", "answers": "up"})
        well.clear()
        eventually(lambda: node.backends("web") == {"hangs": "starting", "answers": "down"})
        assert hangs.accepted == 1
        node.delete("web")
        eventually(lambda: hangs.live == 0)


def test_B05_a_failed_check_leaves_live_sessions_alone(node: RunningNode, switched: Any) -> None:
    node.create("web", health=WELL)
    first = switched("first")
    node.put("web", "a", first.address)
    node.put("web", "b", switched("second").address)
    eventually(lambda: node.backends("web") == {"a": "up", "b": "up"})
    with connected(Address("127.0.0.1", node.port("web"))) as live:
        assert live.recv(100) == b"first well"
        first.well = False
        node.await_backends("web", {"b": "up", "a": "down"})
        live.sendall(b"still here")
        assert live.recv(100) == b"still here"


def test_B07_events_about_a_backend_that_flaps_are_bounded(node: RunningNode, switched: Any) -> None:
    node.create("web", health=WELL)
    backend = switched("a")
    node.put("web", "a", backend.address)
    node.await_backends("web", {"a": "up"})
    for _ in range(5):
        backend.well = False
        node.await_backends("web", {"a": "down"})
        backend.well = True
        node.await_backends("web", {"a": "up"})
    told = node.events("backend.up") + node.events("backend.down")
    assert len(told) == 6
    assert len(node.events("service.all_down")) == 5


# -- Never the last one -----------------------------------------------------------------------------------------------


def test_when_all_are_down_all_get_traffic_and_the_service_says_so_once(node: RunningNode, switched: Any) -> None:
    node.create("web", health=WELL)
    both = [switched("first"), switched("second")]
    for number, backend in enumerate(both):
        node.put("web", str(number), backend.address)
    eventually(lambda: list(node.backends("web").values()) == ["up", "up"])
    for backend in both:
        backend.well = False
    eventually(lambda: list(node.backends("web").values()) == ["down", "down"])
    assert served_by(node, "web") == {b"first", b"second"}
    words = "all backends are down; traffic goes to all of them"
    assert node.service("web").as_json()["warnings"] == [words]
    assert node.service("web").as_json()["status"] == "ready"
    assert node.events("service.all_down") == [f"web: {words}"]
    both[0].well = True
    eventually(lambda: "up" in node.backends("web").values())
    assert served_by(node, "web") == {b"first"}
    assert node.service("web").warnings == ()
    assert node.events("service.all_down") == [f"web: {words}"]


def test_C06_when_no_udp_backend_is_up_the_first_of_them_gets_the_datagrams(
    node: RunningNode, datagram_backend: MakeDatagramBackend
) -> None:
    node.create("udp-dns", health=UDP | {"expect": "never"})
    node.put("udp-dns", "a", datagram_backend("a").address)
    node.await_backends("udp-dns", {"a": "down"})
    assert node.ask("udp-dns") == b"a:ping"
    assert node.service("udp-dns").warnings == ("all backends are down; traffic goes to the first of them",)


# -- UDP --------------------------------------------------------------------------------------------------------------


def test_C06_C07_a_primary_that_dies_silently_is_found_by_its_check_and_joins_the_end_when_it_returns(
    node: RunningNode, datagram_backend: MakeDatagramBackend
) -> None:
    node.create("udp-dns", health=UDP | {"timeout": 1.5})
    first, second = datagram_backend("first"), datagram_backend("second")
    node.put("udp-dns", "a", first.address)
    node.put("udp-dns", "b", second.address)
    eventually(lambda: node.backends("udp-dns") == {"a": "up", "b": "up"})
    with datagrams() as client:
        to = ("127.0.0.1", node.port("udp-dns"))
        client.sendto(b"1", to)
        assert client.recv(100) == b"first:1"
        first.mute()
        node.await_backends("udp-dns", {"b": "up", "a": "down"})
        client.sendto(b"2", to)
        assert client.recv(100) == b"second:2"
        assert node.backend("udp-dns", "a").last_failure == f"udp check of {first.address}: no answer within 1.5 s"
        first.speak()
        node.await_backends("udp-dns", {"b": "up", "a": "up"})
        client.sendto(b"3", to)
        assert client.recv(100) == b"second:3"
    assert node.events("backend.promoted") == ["udp-dns: b takes the datagrams now, a did before"]


def test_C05_max_fails_refused_datagrams_take_a_udp_backend_down(
    node: RunningNode, datagram_backend: MakeDatagramBackend
) -> None:
    node.create("udp-dns", max_fails=2, fail_timeout=3600.0)
    dead = DatagramBackend("dead")
    dead.close()
    node.put("udp-dns", "dead", dead.address)
    node.put("udp-dns", "alive", datagram_backend("alive").address)
    with datagrams() as client:
        client.settimeout(0.1)

        def answered() -> bool:
            client.sendto(b"x", ("127.0.0.1", node.port("udp-dns")))
            with contextlib.suppress(TimeoutError):
                return client.recv(100) == b"alive:x"
            return False

        eventually(answered)
    assert node.backends("udp-dns") == {"alive": "up", "dead": "down"}
    assert node.service("udp-dns").counters.dropped.get("backend_refused", 0) >= 2


def test_one_verdict_counts_for_both_protocols_of_a_backend(node: RunningNode, switched: Any) -> None:
    """What fails over TCP gets no datagrams either."""
    node.create("both-dns", health=WELL)
    first, second = switched("first"), switched("second")
    with (
        contextlib.closing(DatagramBackend("first", port=first.address.port)),
        contextlib.closing(DatagramBackend("second", port=second.address.port)),
    ):
        node.put("both-dns", "a", first.address)
        node.put("both-dns", "b", second.address)
        eventually(lambda: node.backends("both-dns") == {"a": "up", "b": "up"})
        assert node.ask("both-dns") == b"first:ping"
        first.well = False
        node.await_backends("both-dns", {"b": "up", "a": "down"})
        assert node.ask("both-dns") == b"second:ping"
        assert served_by(node, "both-dns") == {b"second"}


# -- Leases, changes, restarts ----------------------------------------------------------------------------------------


def test_H02_heartbeats_change_nothing_about_health(node: RunningNode, switched: Any) -> None:
    node.create("web", health=WELL)
    backend = switched("a")
    backend.well = False
    for _ in range(3):
        node.put("web", "a", backend.address, ttl=3600.0)
    node.await_backends("web", {"a": "down"})
    node.put("web", "a", backend.address, ttl=3600.0)
    assert node.backends("web") == {"a": "down"}
    backend.well = True
    node.await_backends("web", {"a": "up"})


def test_health_is_changed_live_and_sessions_stay(node: RunningNode, switched: Any) -> None:
    node.create("web")
    backend = switched("a")
    backend.well = False
    node.put("web", "a", backend.address)
    assert node.backends("web") == {"a": "up"}
    with connected(Address("127.0.0.1", node.port("web"))) as live:
        assert live.recv(100) == b"a sick"
        node.update("web", health=WELL)
        node.await_backends("web", {"a": "down"})
        node.update("web", health=TCP)
        node.await_backends("web", {"a": "up"})
        node.update("web", health=WELL)
        node.await_backends("web", {"a": "down"})
        node.update("web", health=None)
        assert node.backends("web") == {"a": "up"}
        assert node.events("backend.up")[-1] == "web: backend a was down: it is not checked any more"
        seen = backend.accepted
        live.sendall(b"echo")
        assert live.recv(100) == b"echo"
        assert is_silent(live)
        assert backend.accepted == seen
        assert node.service("web").as_json()["policy"]["health"] is None


def test_a_backend_that_leaves_or_drains_is_not_checked_any_more(node: RunningNode, switched: Any) -> None:
    node.create("web", health=WELL)
    leaves, drains = switched("a"), switched("b")
    node.put("web", "a", leaves.address)
    node.put("web", "b", drains.address, ttl=3600.0)
    eventually(lambda: node.backends("web") == {"a": "up", "b": "up"})
    node.remove("web", "a")
    node.drain("web", "b")
    node.create("other", health=WELL)
    node.put("other", "c", switched("c").address)
    node.await_backends("other", {"c": "up"})
    seen = [leaves.accepted, drains.accepted]
    witness = switched("d")
    node.put("other", "d", witness.address)
    eventually(lambda: witness.accepted >= 4)
    assert [leaves.accepted, drains.accepted] == seen
    node.delete("other")


def test_a_new_instance_under_an_old_id_starts_anew(node: RunningNode, switched: Any) -> None:
    node.create("web", health=WELL)
    old, new = switched("old"), switched("new")
    node.put("web", "a", old.address)
    node.await_backends("web", {"a": "up"})
    new.well = False
    node.put("web", "a", new.address)
    assert node.backends("web")["a"] in ("starting", "down")
    node.await_backends("web", {"a": "down"})
    new.well = True
    node.await_backends("web", {"a": "up"})


def test_after_a_restart_backends_are_up_until_their_first_check_which_decides(
    start: Start, switched: Any, backend: MakeBackend
) -> None:
    node = start()
    patient = WELL | {"interval": 3600.0, "fall": 100}
    node.create("web", health=patient)
    well, sick = switched("well"), switched("sick")
    node.put("web", "a", well.address)
    node.put("web", "b", sick.address)
    eventually(lambda: node.backends("web") == {"a": "up", "b": "up"})
    node.close()
    sick.well = False
    node = start()
    node.await_backends("web", {"a": "up", "b": "down"})
    assert node.service("web").as_json()["policy"]["health"]["expect"] == "well"
    assert served_by(node, "web") == {b"well"}


# -- Where checks go --------------------------------------------------------------------------------------------------


def test_K04_a_check_goes_nowhere_where_a_backend_may_not_be(node: RunningNode, backend: MakeBackend) -> None:
    node.create("other")
    api = backend("api").address
    node.call(lambda: node.node.api_addresses.add(api))
    for port, why in ((api.port, "is the API of this node"), (node.port("other"), "is a port of this node")):
        node.create(f"web-{port}", health=TCP | {"port": port})
        node.put(f"web-{port}", "a", ("127.0.0.1", free_port()))
        node.await_backends(f"web-{port}", {"a": "down"})
        assert why in (node.backend(f"web-{port}", "a").last_failure or "")


def test_a_check_that_makes_no_sense_is_refused_and_changes_nothing(node: RunningNode) -> None:
    node.create("web", health=SELDOM)
    for wrong in ({"type": "ping"}, {"type": "tcp", "path": "/"}, {"interval": 1}, "tcp"):
        with pytest.raises(HarborError) as refused:
            node.update("web", health=wrong)
        assert refused.value.code == "policy_invalid"
    assert node.service("web").as_json()["policy"]["health"]["interval"] == 3600.0
