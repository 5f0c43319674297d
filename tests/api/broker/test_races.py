"""Platforms that ask at the same time, twice, or go away over it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harbor.api.broker.operations import Operations
from support.faulty_store import FaultyStore
from support.osb_platform import BROKER, Platform, basic, chosen, wanted
from support.port_block import open_ports, port_block
from support.running_api import DEADLINE, Answer, running_api, until

APP = {"bind_resource": {"app_guid": "app-1"}}


@pytest.fixture
def store(platform: Platform) -> FaultyStore:
    """Put between the node and its store."""
    journal = platform.api.node._parts.journal
    journal._store = faulty = FaultyStore(journal._store)
    return faulty


async def test_F01_fifty_times_the_same_at_once_is_one_instance(platform: Platform) -> None:
    answers = await asyncio.gather(*(platform.provision("i", name="a", parameters={"port": None}) for _ in range(50)))
    assert Counter(answer.status for answer in answers) == {201: 1, 200: 49}
    assert len({answer.text for answer in answers}) == 1
    assert platform.api.names == ["a"]
    assert len(platform.api.node.ports().used) == 1


async def test_F01_fifty_times_the_same_binding_at_once_is_one_binding(platform: Platform) -> None:
    await platform.provision("i", name="a")
    answers = await asyncio.gather(*(platform.bind("i", "b", **APP) for _ in range(50)))
    assert Counter(answer.status for answer in answers) == {201: 1, 200: 49}
    assert len({answer.text for answer in answers}) == 1
    assert len(platform.api.node.bindings("a")) == 1


async def test_F05_while_an_instance_is_being_made_all_else_about_it_is_refused(
    platform: Platform, store: FaultyStore
) -> None:
    store.hold()
    first = asyncio.ensure_future(platform.provision("i", name="a"))
    await until(lambda: store.held > 0)
    for answer in (
        await platform.deprovision("i"),
        await platform.update("i", parameters={"idle_timeout": 1}),
        await platform.bind("i", "b", **APP),
        await platform.unbind("i", "b"),
    ):
        assert (answer.status, answer.body["error"]) == (422, "ConcurrencyError")
        assert "provision" in answer.body["description"]
    other = await platform.provision("i", "udp", name="a")
    assert (other.status, other.body["error"]) == (409, "InstanceConflict")
    assert (await platform.fetch("i")).status == 404
    assert (await platform("GET", "/service_instances/i/last_operation")).body == {"state": "in progress"}
    again = asyncio.ensure_future(platform.provision("i", name="a"))
    store.let_go()
    assert (await first).status == 201
    assert (await again).status == 200
    assert platform.api.names == ["a"]


async def test_F05_an_update_and_a_delete_keep_others_away(platform: Platform, store: FaultyStore) -> None:
    await platform.provision("i", name="a")
    store.hold()
    update = asyncio.ensure_future(platform.update("i", parameters={"idle_timeout": 1}))
    await until(lambda: store.held > 0)
    for answer in (
        await platform.fetch("i"),
        await platform.update("i", parameters={"idle_timeout": 1}),
        await platform.deprovision("i"),
        await platform.provision("i", name="a"),
    ):
        assert (answer.status, answer.body["error"]) == (422, "ConcurrencyError")
    store.let_go()
    assert (await update).status == 200
    store.hold()
    delete = asyncio.ensure_future(platform.deprovision("i"))
    await until(lambda: store.held > 0)
    for answer in (await platform.deprovision("i"), await platform.provision("i", name="a")):
        assert (answer.status, answer.body["error"]) == (422, "ConcurrencyError")
    store.let_go()
    assert (await delete).status == 200


async def test_F05_two_bindings_are_made_side_by_side_and_the_instance_waits_for_them(
    platform: Platform, store: FaultyStore
) -> None:
    await platform.provision("i", name="a")
    store.hold()
    bindings = [asyncio.ensure_future(platform.bind("i", f"b-{n}", app_guid=f"app-{n}")) for n in range(2)]
    await until(lambda: store.held > 0)
    path = "/service_instances/i/service_bindings/b-0"
    await until(lambda: len(platform.api.node._parts.under_way) == 2)
    assert (await platform("GET", f"{path}/last_operation")).body == {"state": "in progress"}
    assert (await platform("GET", path)).status == 404
    for answer in (
        await platform.deprovision("i"),
        await platform.update("i", parameters={"idle_timeout": 1}),
        await platform.unbind("i", "b-0"),
    ):
        assert (answer.status, answer.body["error"]) == (422, "ConcurrencyError")
    other = await platform.bind("i", "b-0", app_guid="app-9")
    assert (other.status, other.body["error"]) == (409, "BindingConflict")
    store.let_go()
    assert [(await binding).status for binding in bindings] == [201, 201]


async def send(platform: Platform, method: str, path: str, body: Any = None) -> asyncio.StreamWriter:
    """A request whose answer nobody will read."""
    payload = b"" if body is None else json.dumps(body).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", platform.api.port)
    head = (
        f"{method} /v2{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {basic()}\r\n"
        f"X-Broker-API-Version: 2.17\r\nContent-Length: {len(payload)}\r\nContent-Type: application/json\r\n\r\n"
    )
    writer.write(head.encode() + payload)
    await writer.drain()
    return writer


async def deleted(platform: Platform) -> Answer:
    """What a platform is told in the end that deletes until it may."""
    async with asyncio.timeout(DEADLINE):
        while (answer := await platform.deprovision("i")).status == 422:
            pass
    return answer


async def test_F06_a_platform_that_went_away_retries_and_deletes_and_no_port_is_left(
    platform: Platform, store: FaultyStore
) -> None:
    free = platform.api.node.ports().free
    store.hold()
    gone = await send(platform, "PUT", "/service_instances/i", wanted(name="a"))
    await until(lambda: store.held > 0)
    gone.close()
    retry = asyncio.ensure_future(platform.provision("i", name="a"))
    assert (await platform.deprovision("i")).status == 422
    store.let_go()
    assert (await retry).status == 200
    assert platform.api.names == ["a"]
    assert (await platform.deprovision("i")).status == 200
    ports = platform.api.node.ports()
    assert (platform.api.names, ports.used, ports.free + len(ports.resting)) == ([], {}, free)


async def test_F06_who_waits_for_an_operation_is_answered_though_whoever_began_it_is_gone() -> None:
    operations, done = Operations(), asyncio.Event()

    async def work() -> str:
        await done.wait()
        return "made"

    first, second = (
        asyncio.create_task(operations.carry_out("provision", "i", None, "the same", work)) for _ in range(2)
    )
    await until(lambda: operations.kind("i") == "provision")
    await asyncio.sleep(0)  # the second waits as well
    first.cancel()
    await asyncio.wait([first])
    done.set()
    assert await second == ("made", False)


async def test_F06_a_platform_that_went_away_and_only_deletes_leaves_no_port(
    platform: Platform, store: FaultyStore
) -> None:
    free = platform.api.node.ports().free
    store.hold()
    gone = await send(platform, "PUT", "/service_instances/i", wanted(name="a"))
    await until(lambda: store.held > 0)
    gone.close()
    store.let_go()
    assert (await deleted(platform)).status == 200
    assert (await deleted(platform)).status == 410
    ports = platform.api.node.ports()
    assert (platform.api.names, ports.used, ports.free + len(ports.resting)) == ([], {}, free)


async def test_F06_a_delete_that_nobody_waited_for_is_gone_when_it_is_asked_again(
    platform: Platform, store: FaultyStore
) -> None:
    await platform.provision("i", name="a")
    store.hold()
    gone = await send(platform, "DELETE", f"/service_instances/i?{chosen()}")
    await until(lambda: store.held > 0)
    gone.close()
    store.let_go()
    assert (await deleted(platform)).status == 410
    assert platform.api.names == []


async def test_a_change_that_could_not_be_written_did_not_happen_and_may_be_asked_again(
    platform: Platform, store: FaultyStore
) -> None:
    store.broken = True
    answer = await platform.provision("i", name="a")
    assert (answer.status, answer.body["error"]) == (503, "StoreFailed")
    assert platform.api.names == []
    assert platform.api.node.ports().used == {}
    assert (await platform.deprovision("i")).status == 410  # what a platform does after a 5xx
    store.broken = False
    assert (await platform.provision("i", name="a")).status == 201
    store.broken = True
    assert (await platform.bind("i", "b", **APP)).status == 503
    answer = await platform.update("i", parameters={"idle_timeout": 1})
    assert (answer.status, answer.body["update_repeatable"]) == (503, True)
    assert (await platform.deprovision("i")).status == 503
    store.broken = False
    assert (await platform.unbind("i", "b")).status == 410
    assert (await platform.fetch("i")).body["parameters"] == {}
    assert (await platform.deprovision("i")).status == 200


async def test_G01_two_hundred_at_once_for_fifty_ports(tmp_path: Path) -> None:
    with port_block(50) as ports:
        async with running_api(tmp_path, BROKER, ports=ports) as api:
            platform = Platform(api)
            answers = await asyncio.gather(*(platform.provision(f"i-{n}", name="same") for n in range(200)))
            assert Counter(answer.status for answer in answers) == {201: 50, 422: 150}
            refused = [answer.body for answer in answers if answer.status == 422]
            assert {body["error"] for body in refused} == {"PortsExhausted"}
            assert all("no free port" in body["description"] for body in refused)
            leased = [a.body["metadata"]["attributes"]["port"] for a in answers if a.status == 201]
            assert sorted(leased) == list(ports)
            assert len(api.names) == 50
            assert set(open_ports(ports)) == set(ports)
            for number, answer in enumerate(answers):
                assert (await platform.fetch(f"i-{number}")).status == (200 if answer.status == 201 else 404)
                deleted = await platform.deprovision(f"i-{number}")
                assert deleted.status == (200 if answer.status == 201 else 410)
            assert (api.names, api.node.ports().used) == ([], {})
        assert open_ports(ports) == {}


async def test_G01_a_quota_holds_however_many_ask_at_once(tmp_path: Path) -> None:
    quota = "broker: {username: platform, password: sesame, quotas: [{space: '*', ports: 5, sessions: 100}]}"
    async with running_api(tmp_path, quota) as api:
        platform = Platform(api)
        sessions = {"max_sessions": 20}
        answers = await asyncio.gather(*(platform.provision(f"i-{n}", parameters=sessions) for n in range(20)))
        assert Counter(answer.status for answer in answers) == {201: 5, 422: 15}
        assert len(api.names) == 5
        made = [n for n in range(20) if answers[n].status == 201]
        lowered = await asyncio.gather(*(platform.update(f"i-{n}", parameters={"max_sessions": 10}) for n in made))
        assert [answer.status for answer in lowered] == [200] * 5
        raised = await asyncio.gather(*(platform.update(f"i-{n}", parameters={"max_sessions": 40}) for n in made))
        assert Counter(answer.status for answer in raised) == {200: 1, 422: 4}
        assert sum(view.policy.max_sessions for view in api.node.services()) == 80
