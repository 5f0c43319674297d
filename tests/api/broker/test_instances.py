"""The life of an instance, with every status that the specification wants."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from support.osb_platform import PLANS, SERVICE_ID, Platform, chosen, wanted
from support.running_api import FIRST_PORT, LAST_PORT, RESERVED_PORT, running_api


async def test_an_instance_is_a_port_with_the_protocol_of_its_plan(platform: Platform) -> None:
    for plan in ("tcp", "udp", "both"):
        answer = await platform.provision(f"i-{plan}", plan, name=f"my-{plan}")
        assert answer.status == 201
        attributes = answer.body["metadata"]["attributes"]
        assert (attributes["name"], attributes["protocol"]) == (f"my-{plan}", plan)
        view = platform.api.node.service(f"my-{plan}")
        assert (view.service.port, view.service.plan) == (attributes["port"], plan)
    assert (await platform("GET", "/service_instances/i-udp/last_operation")).body == {"state": "succeeded"}


async def test_parameters_win_over_the_plan_and_the_plan_over_the_name(platform: Platform) -> None:
    for number, (name, plan, parameters, protocol) in enumerate(
        [
            ("udp-logs", "tcp", {}, "tcp"),
            ("udp-logs", "both", {}, "both"),
            ("logs", "tcp", {"protocol": "udp"}, "udp"),
            ("both-logs", "udp", {"protocol": "tcp"}, "tcp"),
        ]
    ):
        answer = await platform.provision(f"i-{number}", plan, name=name, parameters=parameters)
        assert answer.body["metadata"]["attributes"]["protocol"] == protocol


async def test_a_name_that_ends_in_https_asks_for_tls_whatever_the_service_is_called_in_the_end(
    platform: Platform,
) -> None:
    assert (await platform.provision("a", name="web-https", parameters={"tls": "off"})).status == 201
    for number, name in enumerate(("shop-https", "web-https")):  # the second is taken, and would lose its suffix
        answer = await platform.provision(f"i-{number}", name=name)
        assert answer.status == 201
    services = (await platform.api.tcp("GET", "/v1/services")).body
    assert sorted(one["tls"] for one in services) == ["node", "node", "off"]
    assert {one["name"] for one in services} >= {"web-https", "shop-https"}


async def test_services_are_called_as_the_user_calls_them(platform: Platform) -> None:
    names = {}
    for number, name in enumerate(("my-port", "my-port", "Grüße an alle!", "../etc", "日本", None)):
        more = {} if name is None else {"name": name}
        answer = await platform.provision(f"i-{number}", **more)
        assert answer.status == 201
        names[number] = answer.body["metadata"]["attributes"]["name"]
    assert (names[0], names[2], names[3]) == ("my-port", "Grue-an-alle", "etc")
    assert names[1].startswith("my-port-")
    assert names[4].startswith("tcp-")
    assert names[5].startswith("tcp-")
    assert len(set(names.values())) == len(names)


async def test_F02_the_same_id_with_other_parameters_is_a_conflict_and_changes_nothing(platform: Platform) -> None:
    assert (await platform.provision("i", name="a", parameters={"idle_timeout": 5})).status == 201
    before = (await platform.api.unix("GET", "/v1/services")).body
    for body in (
        wanted("udp", name="a", parameters={"idle_timeout": 5}),
        wanted("tcp", name="a", parameters={"idle_timeout": 6}),
        wanted("tcp", name="a"),
        {**wanted("tcp", name="a", parameters={"idle_timeout": 5}), "context": {"space_guid": "space-2"}},
        {
            **wanted("tcp", name="a", parameters={"idle_timeout": 5}),
            "context": None,
            "organization_guid": "org-2",
        },
    ):
        answer = await platform("PUT", "/service_instances/i", body)
        assert (answer.status, answer.body["error"]) == (409, "InstanceConflict")
    assert (await platform.api.unix("GET", "/v1/services")).body == before


async def test_F01_the_same_request_again_is_answered_with_the_same_instance(platform: Platform) -> None:
    first = await platform.provision("i", name="a", parameters={"idle_timeout": 5})
    again = await platform.provision("i", name="a", parameters={"idle_timeout": 5.0, "max_sessions": None})
    assert (first.status, again.status) == (201, 200)
    assert again.body == first.body
    assert platform.api.names == ["a"]


async def test_F03_what_is_deleted_twice_or_never_was_is_gone_and_its_port_is_freed_once(platform: Platform) -> None:
    before = platform.api.node.ports()
    assert (await platform.deprovision("i")).status == 410
    await platform.provision("i")
    port = await platform.port("i")
    answer = await platform.deprovision("i")
    assert (answer.status, answer.body) == (200, {})
    for _ in range(2):
        answer = await platform.deprovision("i")
        assert (answer.status, answer.body["error"]) == (410, "InstanceGone")
        assert (await platform.fetch("i")).status == 404
        assert (await platform("GET", "/service_instances/i/last_operation")).status == 410
    ports = platform.api.node.ports()
    assert list(ports.resting) == [port]
    assert ports.free == before.free - 1
    assert (await platform.provision("i")).status == 201


async def test_F03_an_instance_that_an_administrator_deleted_is_gone(platform: Platform) -> None:
    await platform.provision("i", name="a")
    assert (await platform.api.unix("DELETE", "/v1/services/a")).status == 204
    assert (await platform.fetch("i")).status == 404
    assert (await platform.deprovision("i")).status == 410


async def test_a_delete_must_name_offering_and_plan_and_name_them_right(platform: Platform) -> None:
    await platform.provision("i")
    for query in ("", f"service_id={SERVICE_ID}", f"plan_id={PLANS['tcp']}", f"service_id=&plan_id={PLANS['tcp']}"):
        for path in ("/service_instances/i", "/service_instances/i/service_bindings/b"):
            answer = await platform("DELETE", f"{path}?{query}")
            assert (answer.status, answer.body["error"]) == (400, "Invalid")
    wrong = await platform.deprovision("i", "udp")
    assert (wrong.status, wrong.body["error"]) == (400, "PlanMismatch")
    assert (await platform("DELETE", "/service_instances/i?service_id=x&plan_id=y")).body["error"] == "OfferingUnknown"
    unknown = f"service_id={SERVICE_ID}&plan_id=y"
    assert (await platform("DELETE", f"/service_instances/i?{unknown}")).body["error"] == "PlanUnknown"
    assert (await platform("GET", f"/service_instances/i?{chosen('udp')}")).status == 400
    assert (await platform("GET", f"/service_instances/i?{chosen()}")).status == 200
    assert (await platform("GET", f"/service_instances/i/last_operation?{unknown}")).status == 400


async def test_a_request_that_is_wrong_says_where(platform: Platform) -> None:
    cases: list[tuple[Any, str, str]] = [
        ({}, "Invalid", "service_id"),
        ({"service_id": SERVICE_ID}, "Invalid", "plan_id"),
        ({"service_id": "x", "plan_id": PLANS["tcp"]}, "OfferingUnknown", SERVICE_ID),
        ({"service_id": SERVICE_ID, "plan_id": "x"}, "PlanUnknown", PLANS["udp"]),
        ({"service_id": 1, "plan_id": None}, "Invalid", "service_id"),
        (wanted(parameters={"max_session": 1}), "Invalid", "max_sessions"),
        (wanted(parameters={"max_sessions": "many"}), "Invalid", "max_sessions"),
        (wanted(parameters={"name": "a"}), "Invalid", "name"),
        (wanted(organization_guid=""), "Invalid", "organization_guid"),
        (wanted(context=[]), "Invalid", "context"),
        (wanted(context={"instance_name": 5}), "Invalid", "instance_name"),
        ([], "Invalid", "body"),
        ("text", "Invalid", "body"),
    ]
    for body, error, hint in cases:
        answer = await platform("PUT", "/service_instances/i", body)
        assert (answer.status, answer.body["error"]) == (400, error)
        assert hint in answer.body["description"]
        assert set(answer.body) == {"error", "description"}
    assert platform.api.names == []


async def test_what_a_later_specification_adds_is_ignored(platform: Platform) -> None:
    body = wanted(name="a", previous_values={"plan_id": 7}, vendor_extension={"x": [1, 2]})
    body["context"] |= {"organization_annotations": {"a": "b"}}
    assert (await platform("PUT", "/service_instances/i?accepts_incomplete=false&x=y", body)).status == 201


async def test_F12_a_port_that_cannot_be_had_is_refused(platform: Platform) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        assert (await platform.provision("other", parameters={"port": FIRST_PORT + 5})).status == 201
        for port, status in [
            (0, 400),
            (-1, 400),
            (65536, 400),
            ("80", 400),
            (80.5, 400),
            (True, 400),
            (22, 400),
            (platform.api.port, 400),
            (LAST_PORT + 1, 400),
            (squatter.getsockname()[1], 400),
            (RESERVED_PORT, 409),
            (FIRST_PORT + 5, 409),
        ]:
            answer = await platform.provision("i", parameters={"port": port})
            assert (port, answer.status) == (port, status)
            assert answer.body["description"]
        answer = await platform.provision("i", parameters={"port": FIRST_PORT + 6})
        assert answer.body["metadata"]["attributes"]["port"] == FIRST_PORT + 6
    assert len(platform.api.names) == 2


async def test_F12_a_port_that_another_program_holds_is_refused(platform: Platform) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", FIRST_PORT + 7))
        squatter.listen()
        answer = await platform.provision("i", parameters={"port": FIRST_PORT + 7})
    assert (answer.status, answer.body["error"]) == (409, "PortTaken")
    assert (await platform.provision("i", parameters={"port": FIRST_PORT + 7})).status == 201


async def test_an_update_changes_parameters_and_leaves_those_that_it_does_not_name(platform: Platform) -> None:
    await platform.provision("i", name="a", parameters={"idle_timeout": 5, "max_sessions": 7})
    answer = await platform.update("i", parameters={"max_sessions": 9, "removal": "cut"})
    assert (answer.status, answer.body) == (200, {})
    fetched = (await platform.fetch("i")).body
    assert fetched["parameters"] == {"idle_timeout": 5, "max_sessions": 9, "removal": "cut"}
    policy = platform.api.node.service("a").policy
    assert (policy.idle_timeout, policy.max_sessions, policy.removal.value) == (5, 9, "cut")
    assert (await platform.update("i", parameters={"idle_timeout": None})).status == 200
    assert (await platform.fetch("i")).body["parameters"] == {"max_sessions": 9, "removal": "cut"}
    assert platform.api.node.service("a").policy.idle_timeout == 0
    assert fetched["plan_id"] == PLANS["tcp"]


async def test_an_update_that_changes_nothing_is_not_written_down(platform: Platform) -> None:
    await platform.provision("i", name="a", parameters={"idle_timeout": 5})
    before = platform.api.node.events.recent()
    for body in ({}, {"parameters": {}}, {"plan_id": PLANS["tcp"], "context": {"instance_name": "a"}}):
        assert (await platform.update("i", **body)).status == 200
    assert platform.api.node.events.recent() == before


async def test_a_renamed_instance_keeps_its_service_and_its_retries(platform: Platform) -> None:
    await platform.provision("i", name="a")
    assert (await platform.update("i", context={"instance_name": "b"})).status == 200
    assert platform.api.names == ["a"]
    assert (await platform.provision("i", name="b")).status == 200


async def test_a_plan_that_would_make_another_port_of_it_is_refused(platform: Platform) -> None:
    await platform.provision("i", name="a", parameters={"idle_timeout": 5})
    for plan in ("udp", "both", "https"):
        answer = await platform.update("i", plan_id=PLANS[plan], parameters={"idle_timeout": 6})
        assert (answer.status, answer.body["error"]) == (422, "UpdateUnsupported")
        assert (answer.body["instance_usable"], answer.body["update_repeatable"]) == (True, False)
    fetched = (await platform.fetch("i")).body
    assert (fetched["plan_id"], fetched["parameters"]) == (PLANS["tcp"], {"idle_timeout": 5})
    for parameters in ({"protocol": "udp"}, {"port": 1 + await platform.port("i")}, {"tls": "node"}):
        answer = await platform.update("i", parameters=parameters)
        assert (answer.status, answer.body["error"]) == (422, "UpdateUnsupported")


async def test_a_plan_that_leaves_the_port_as_it_is_can_be_changed(platform: Platform) -> None:
    await platform.provision("i", "https", name="a", parameters={"tls": "off"})
    await platform.provision("j", "udp", name="b", parameters={"protocol": "both"})
    for instance, name, plan in (("i", "a", "tcp"), ("j", "b", "both")):
        port = await platform.port(instance)
        assert (await platform.update(instance, plan_id=PLANS[plan])).status == 200
        fetched = (await platform.fetch(instance)).body
        assert (fetched["plan_id"], fetched["metadata"]["attributes"]["port"]) == (PLANS[plan], port)
        assert platform.api.node.service(name).service.plan == plan
        assert (await platform.deprovision(instance, plan)).status == 200


async def test_an_update_of_nothing_or_with_wrong_values_is_refused(platform: Platform) -> None:
    assert (await platform.update("i", parameters={})).status == 404
    await platform.provision("i")
    for body, error in [
        ({"plan_id": "x"}, "PlanUnknown"),
        ({"service_id": "x"}, "OfferingUnknown"),
        ({"service_id": None}, "Invalid"),
        ({"parameters": {"max_sessions": -1}}, "Invalid"),
        ({"parameters": {"maxsessions": 1}}, "Invalid"),
    ]:
        answer = await platform.update("i", **body)
        assert (answer.status, answer.body["error"]) == (400, error)
        assert answer.body["instance_usable"] is True


async def test_maintenance_information_that_is_not_in_the_catalog_is_refused(platform: Platform) -> None:
    more = {"maintenance_info": {"version": "1.0.0"}}
    assert (await platform.provision("i", **more)).body["error"] == "MaintenanceInfoConflict"
    await platform.provision("i")
    answer = await platform.update("i", **more)
    assert (answer.status, answer.body["error"]) == (422, "MaintenanceInfoConflict")


def _broker(quotas: str) -> str:
    return f"broker:\n  username: platform\n  password: sesame\n{quotas}"


async def test_a_quota_of_ports_holds_for_each_organisation_and_space(tmp_path: Path) -> None:
    quotas = """
  quotas:
  - {organization: "*", ports: 3}
  - {organization: org-2, ports: 1}
  - {space: "*", ports: 2}
"""
    async with running_api(tmp_path, _broker(quotas)) as api:
        platform = Platform(api)
        statuses = []
        for number, (organization, space) in enumerate(
            [("1", "a"), ("1", "a"), ("1", "a"), ("1", "b"), ("1", "b"), ("2", "c"), ("2", "d"), ("", ""), ("", "")]
        ):
            context = {"organization_guid": f"org-{organization}", "space_guid": space} if organization else {}
            body = {"service_id": SERVICE_ID, "plan_id": PLANS["tcp"], "context": context}
            answer = await platform("PUT", f"/service_instances/i-{number}", body)
            statuses.append(answer.status)
            if answer.status != 201:
                assert answer.body["error"] == "QuotaExceeded"
                assert "may have" in answer.body["description"]
        assert statuses == [201, 201, 422, 201, 422, 201, 422, 201, 201]
        assert len(api.names) == 6
        assert (await platform.deprovision("i-0")).status == 200
        assert (
            await platform.provision("i-2", context={"organization_guid": "org-1", "space_guid": "a"})
        ).status == 201


async def test_a_quota_of_sessions_is_one_of_promises(tmp_path: Path) -> None:
    async with running_api(tmp_path, _broker('  quotas: [{organization: "*", sessions: 15000}]')) as api:
        platform = Platform(api)
        assert (await platform.provision("a", name="a")).status == 201
        assert (await platform.provision("b", name="b")).status == 201  # gets what is left
        sessions = {name: api.node.service(name).policy.max_sessions for name in ("a", "b")}
        assert sessions == {"a": 10_000, "b": 5000}
        refused = await platform.provision("c", name="c")
        assert (refused.status, refused.body["error"]) == (422, "QuotaExceeded")
        assert "15000" in refused.body["description"]
        more = await platform.update("b", parameters={"max_sessions": 5001})
        assert (more.status, more.body["update_repeatable"]) == (422, True)
        assert (await platform.update("b", parameters={"max_sessions": 0})).status == 422
        assert (await platform.update("a", parameters={"max_sessions": 9000})).status == 200
        assert (await platform.provision("c", name="c", parameters={"max_sessions": 1001})).status == 422
        assert (await platform.provision("c", name="c", parameters={"max_sessions": 1000})).status == 201
        assert (await platform.update("b", parameters={"max_sessions": None})).status == 200
        assert api.node.service("b").policy.max_sessions == 5000
