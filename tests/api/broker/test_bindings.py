"""Bindings: credentials, endpoints, and the token with which the instances of an app register."""

from __future__ import annotations

import json
from pathlib import Path

from support.osb_platform import PLANS, SERVICE_ID, Platform
from support.running_api import running_api

APP = {"bind_resource": {"app_guid": "app-1"}}


async def test_a_binding_tells_the_app_where_its_port_is(platform: Platform) -> None:
    await platform.provision("i", name="a")
    service = platform.api.node.service("a").service
    answer = await platform.bind("i", "b", **APP)
    assert answer.status == 201
    credentials = dict(answer.body["credentials"])
    token, uri = credentials.pop("token"), credentials.pop("backends_uri")
    assert credentials == {
        "hostname": "127.0.0.1",
        "host": "127.0.0.1",
        "port": service.port,
        "name": service.id,
        "node_id": "harbor_node_1",
        "int_port": 4100,
    }
    assert answer.body["endpoints"] == [{"host": "127.0.0.1", "ports": [str(service.port)], "protocol": "tcp"}]
    assert uri == f"{platform.api.server.url}/v1/services/{service.id}/backends"
    fetched = (await platform.fetch_binding("i", "b")).body
    assert fetched == {**answer.body, "parameters": {}}
    again = await platform.bind("i", "b", **APP)
    assert (again.status, again.body) == (200, answer.body)
    assert again.body["credentials"]["token"] == token


async def test_the_outside_is_told_where_the_node_has_one(tmp_path: Path) -> None:
    outside = "node: {hostname: in.example, ext_host: 203.0.113.5, ext_hostname: out.example}\nbroker: {password: x}"
    async with running_api(tmp_path, outside.replace("password: x", "username: platform, password: sesame")) as api:
        platform = Platform(api)
        await platform.provision("i", "both")
        answer = await platform.bind("i", "b", "both", **APP)
        port = str(await platform.port("i"))
    credentials = dict(answer.body["credentials"])
    assert (credentials["ext_host"], credentials["ext_hostname"]) == ("203.0.113.5", "out.example")
    hosts = ["in.example", "127.0.0.1", "out.example", "203.0.113.5"]
    assert answer.body["endpoints"] == [{"host": host, "ports": [port], "protocol": "all"} for host in hosts]


async def test_the_token_of_a_binding_manages_the_backends_of_its_instance_until_it_is_removed(
    platform: Platform,
) -> None:
    await platform.provision("i", name="a")
    await platform.provision("j", name="other")
    credentials = (await platform.bind("i", "b", **APP)).body["credentials"]
    path = credentials["backends_uri"].removeprefix(str(platform.api.server.url))
    headers = {"Authorization": f"Bearer {credentials['token']}"}
    backend = {"host": "127.0.0.1", "port": 9, "ttl": 30}
    assert (await platform.api.tcp("PUT", f"{path}/one", backend, headers=headers)).status == 201
    assert (await platform.api.tcp("PUT", "/v1/services/other/backends/one", backend, headers=headers)).status == 403
    assert (await platform("GET", "/catalog", headers=headers)).status == 401
    assert (await platform.unbind("i", "b")).status == 200
    assert (await platform.api.tcp("PUT", f"{path}/one", backend, headers=headers)).status == 401


async def test_an_app_is_known_by_its_guid_or_by_the_name_that_the_user_gives(platform: Platform) -> None:
    await platform.provision("i", name="a")
    for binding, more, app in [
        ("b-1", {"app_guid": "old-style"}, "old-style"),
        ("b-2", {"bind_resource": {"app_guid": "683ea748-3092-4ff4-b656-39cacc4d5360"}}, None),
        ("b-3", {**APP, "parameters": {"app": "shop"}}, "shop"),
        ("b-4", {"bind_resource": {"app_guid": "urn:app/7"}}, "urn-app-7"),
    ]:
        assert (await platform.bind("i", binding, **more)).status == 201
        name = app or more["bind_resource"]["app_guid"]  # type: ignore[index]
        assert platform.api.node.binding("a", name).binding.id == binding
    wrong = await platform.bind("i", "b-5", parameters={"app": "not a name"})
    assert (wrong.status, wrong.body["error"]) == (400, "Invalid")


async def test_credentials_need_no_app_and_one_app_may_have_several(platform: Platform) -> None:
    await platform.provision("i", name="a")
    tokens = set()
    for number, more in enumerate(({}, {}, APP, APP)):
        answer = await platform.bind("i", f"b-{number}", **more)
        assert answer.status == 201
        tokens.add(answer.body["credentials"]["token"])
    apps = [view.binding.app for view in platform.api.node.bindings("a")]
    assert (len(set(apps)), len(tokens)) == (4, 4)
    assert sum(app.startswith("key-") for app in apps) == 2
    assert sum(app.startswith("app-1") for app in apps) == 2


async def test_what_the_platform_bound_is_in_the_environment_of_the_app(platform: Platform) -> None:
    await platform.provision("i", name="my-port")
    await platform.bind("i", "b", **APP)
    answer = await platform.api.unix("GET", "/v1/apps/app-1/env")
    assert set(json.loads(answer.body["STACKATO_SERVICES"])) == {"my-port"}
    assert answer.body["STACKATO_HARBOR_MY_PORT"] == answer.body["STACKATO_HARBOR"] == "4100"


async def test_names_that_would_become_one_variable_are_refused_for_one_app(platform: Platform) -> None:
    await platform.provision("i", name="my-port")
    await platform.provision("j", name="my.port")
    await platform.bind("i", "b-1", **APP)
    answer = await platform.bind("j", "b-2", **APP)
    assert (answer.status, answer.body["error"]) == (409, "VariablesCollide")
    assert (await platform.fetch_binding("j", "b-2")).status == 404
    assert (await platform.bind("j", "b-2", app_guid="app-2")).status == 201


async def test_F02_the_same_binding_id_for_something_else_is_a_conflict(platform: Platform) -> None:
    await platform.provision("i", name="a")
    await platform.provision("j", name="b")
    await platform.bind("i", "b", **APP)
    for instance, more in [("i", {"app_guid": "app-2"}), ("i", {**APP, "parameters": {"app": "x"}}), ("j", APP)]:
        answer = await platform.bind(instance, "b", **more)
        assert (answer.status, answer.body["error"]) == (409, "BindingConflict")
    assert [view.binding.app for view in platform.api.node.bindings("a")] == ["app-1"]
    assert platform.api.node.bindings("b") == []


async def test_F03_a_binding_that_is_not_there_is_gone(platform: Platform) -> None:
    for path in ("", "/last_operation"):
        status = (await platform("GET", f"/service_instances/i/service_bindings/b{path}")).status
        assert status == (410 if path else 404)
    assert (await platform.unbind("i", "b")).status == 410
    await platform.provision("i")
    await platform.provision("j")
    answer = await platform.unbind("i", "b")
    assert (answer.status, answer.body["error"]) == (410, "BindingGone")
    await platform.bind("i", "b", **APP)
    assert (await platform.unbind("j", "b")).status == 410  # another instance's
    assert (await platform("GET", "/service_instances/i/service_bindings/b/last_operation")).body == {
        "state": "succeeded"
    }
    answer = await platform.unbind("i", "b")
    assert (answer.status, answer.body) == (200, {})
    assert (await platform.unbind("i", "b")).status == 410
    assert (await platform("GET", "/service_instances/i/service_bindings/b/last_operation")).status == 410


async def test_binding_to_what_is_not_there_or_is_another_plan_is_refused(platform: Platform) -> None:
    answer = await platform.bind("i", "b", **APP)
    assert (answer.status, answer.body["error"]) == (404, "InstanceNotFound")
    await platform.provision("i")
    assert (await platform.bind("i", "b", "udp")).body["error"] == "PlanMismatch"
    assert (await platform.bind("i", "b", parameters={"colour": "red"})).status == 400
    body = {"service_id": "x", "plan_id": PLANS["tcp"]}
    path = "/service_instances/i/service_bindings/b"
    assert (await platform("PUT", path, body)).body["error"] == "OfferingUnknown"
    assert (await platform("PUT", path, {"service_id": SERVICE_ID})).status == 400


async def test_a_bound_instance_is_deleted_once_its_bindings_are(platform: Platform) -> None:
    await platform.provision("i", name="a")
    await platform.bind("i", "b", **APP)
    answer = await platform.deprovision("i")
    assert (answer.status, answer.body["error"]) == (409, "ServiceBound")
    assert "app-1" in answer.body["description"]
    assert answer.body["instance_usable"] is True
    await platform.unbind("i", "b")
    assert (await platform.deprovision("i")).status == 200


async def test_a_binding_that_somebody_made_by_hand_is_none_of_the_platforms(platform: Platform) -> None:
    await platform.provision("i", name="a")
    view = (await platform.api.unix("POST", "/v1/services/a/bindings", {"app": "mine"})).body
    assert (await platform.fetch_binding("i", view["id"])).status == 404
    assert (await platform.unbind("i", view["id"])).status == 410
    assert (await platform.bind("i", "mine", app_guid="other")).status == 201
    assert (await platform.unbind("i", "mine")).status == 200  # the binding of this id, not that of the app
    assert [view.binding.app for view in platform.api.node.bindings("a")] == ["mine"]
