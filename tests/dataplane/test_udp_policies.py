"""What a service may ask of its UDP flows: their length, what unproven clients get, and how they leave a backend."""

from __future__ import annotations

import socket

from harbor.model import Address, Drop, Reason, Route
from support.plane import RunningPlane
from support.sockets import address_of, is_silent
from support.waiting import eventually

LOCAL = "127.0.0.1"
Flow = tuple[str, int]


def udp_pair(plane: RunningPlane, **policy: object) -> tuple[int, Address, socket.socket]:
    backend = plane.datagrams()
    port = plane.open("udp", **policy)
    plane.backends(port, [address_of(backend)])
    return port, Address(LOCAL, port), backend


def ask(client: socket.socket, to: Address, backend: socket.socket, text: bytes = b"hello") -> Flow:
    client.sendto(text, to)
    data, flow = backend.recvfrom(65_535)
    assert data == text
    return flow


def test_a_flow_ends_with_the_replies_that_were_expected(plane: RunningPlane) -> None:
    port, to, backend = udp_pair(plane, udp_responses=2)
    client = plane.datagrams()
    flow = ask(client, to, backend)
    for number in (b"1", b"2"):
        backend.sendto(number, flow)
        assert client.recv(10) == number
    plane.await_end(port, Reason.ANSWERED)
    assert ask(client, to, backend) != flow


def test_replies_to_several_datagrams_are_counted_together(plane: RunningPlane) -> None:
    port, to, backend = udp_pair(plane, udp_responses=1)
    client = plane.datagrams()
    flow = ask(client, to, backend)
    assert ask(client, to, backend) == flow
    backend.sendto(b"1", flow)
    assert client.recv(10) == b"1"
    assert plane.counters(port).active == 1
    backend.sendto(b"2", flow)
    assert client.recv(10) == b"2"
    plane.await_end(port, Reason.ANSWERED)


def test_after_its_requests_a_client_begins_another_flow_and_the_first_is_still_answered(plane: RunningPlane) -> None:
    port, to, backend = udp_pair(plane, udp_requests=1, udp_responses=1)
    client = plane.datagrams()
    flows = [ask(client, to, backend, b"%d" % number) for number in range(3)]
    assert len(set(flows)) == 3
    assert plane.counters(port).active == 3
    for number in (1, 0, 2):
        backend.sendto(b"%d" % number, flows[number])
        assert client.recv(10) == b"%d" % number
    plane.await_end(port, Reason.ANSWERED, 3)


def test_flows_that_are_never_answered_are_forgotten_whoever_has_their_key_now(plane: RunningPlane) -> None:
    port, to, backend = udp_pair(plane, udp_requests=1, udp_timeout=0.2)
    client = plane.datagrams()
    assert ask(client, to, backend) != ask(client, to, backend)
    plane.await_end(port, Reason.IDLE_TIMEOUT, 2)


def test_C12_a_client_that_has_not_shown_that_it_receives_gets_no_more_than_its_budget(plane: RunningPlane) -> None:
    port, to, backend = udp_pair(plane, reply_budget=1000)
    victim = plane.datagrams()
    flow = ask(victim, to, backend, b"x")
    for _ in range(100):
        backend.sendto(bytes(300), flow)
    eventually(lambda: plane.counters(port).dropped.get(Drop.REPLY_BUDGET, 0) == 97)
    assert [len(victim.recv(400)) for _ in range(3)] == [300] * 3
    assert is_silent(victim)
    assert plane.counters(port).bytes_out == 900


def test_C12_a_client_that_sends_again_after_a_reply_gets_everything(plane: RunningPlane) -> None:
    port, to, backend = udp_pair(plane, reply_budget=10)
    client = plane.datagrams()
    flow = ask(client, to, backend)
    assert ask(client, to, backend) == flow  # it may not have received anything yet
    backend.sendto(bytes(11), flow)
    backend.sendto(bytes(10), flow)
    assert client.recv(400) == bytes(10)
    ask(client, to, backend)
    backend.sendto(bytes(60_000), flow)
    assert len(client.recv(65_535)) == 60_000
    assert dict(plane.counters(port).dropped) == {Drop.REPLY_BUDGET: 1}


def test_C12_who_has_shown_it_need_not_show_it_again_when_another_backend_takes_over(plane: RunningPlane) -> None:
    port, to, first = udp_pair(plane, reply_budget=10)
    second, client = plane.datagrams(), plane.datagrams()
    first.sendto(b"1", ask(client, to, first))
    assert client.recv(10) == b"1"
    plane.backends(port, [address_of(second)])
    second.sendto(bytes(500), ask(client, to, second))
    assert client.recv(1000) == bytes(500)


def test_a_lame_duck_keeps_its_flows_and_gets_no_new_ones(plane: RunningPlane) -> None:
    port, to, first = udp_pair(plane)
    second, old, new = plane.datagrams(), plane.datagrams(), plane.datagrams()
    flow = ask(old, to, first)
    plane.release_gently(port, "b1", 60.0)
    plane.routes(port, [Route("b2", address_of(second))])
    assert ask(old, to, first) == flow
    ask(new, to, second)
    first.sendto(b"still here", flow)
    assert old.recv(20) == b"still here"


def test_flows_of_a_lame_duck_that_dies_go_on_elsewhere(plane: RunningPlane) -> None:
    port, to, first = udp_pair(plane)
    second, client = plane.datagrams(), plane.datagrams()
    ask(client, to, first)
    plane.release_gently(port, "b1", 60.0)
    plane.routes(port, [Route("b2", address_of(second))])
    first.close()
    second.settimeout(0.05)
    came = []

    def moved() -> bool:
        client.sendto(b"anybody?", to)
        try:
            came.append(second.recv(20))
        except TimeoutError:
            return False
        return True

    eventually(moved)
    assert came == [b"anybody?"]


def test_flows_of_a_lame_duck_end_when_its_time_is_over(plane: RunningPlane) -> None:
    port, to, first = udp_pair(plane)
    second, client = plane.datagrams(), plane.datagrams()
    ask(client, to, first)
    plane.release_gently(port, "b1", 0.2)
    plane.routes(port, [Route("b2", address_of(second))])
    plane.await_end(port, Reason.DRAINED)
    ask(client, to, second)


def test_other_udp_policies_are_in_force_at_once_and_leave_flows_alone(plane: RunningPlane) -> None:
    port, to, backend = udp_pair(plane)
    old, new = plane.datagrams(), plane.datagrams()
    flow = ask(old, to, backend)
    plane.set_policy(port, udp_responses=1, reply_budget=5)
    backend.sendto(bytes(100), flow)
    assert len(old.recv(200)) == 100
    assert plane.counters(port).active == 1
    backend.sendto(b"1", ask(new, to, backend))
    assert new.recv(10) == b"1"
    plane.await_end(port, Reason.ANSWERED)
    plane.set_policy(port, udp_requests=1)
    assert ask(old, to, backend) != flow
