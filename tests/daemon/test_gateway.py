"""A node and a cloud controller together: from the registration to the sign-off, and what each makes of the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from support.cloud_controller import TOKEN, CloudController, Refusal, cloud_controller
from support.running_api import Api, running_api, until


@asynccontextmanager
async def node_of(cloud: CloudController | str, state: Path, more: str = "interval: 1") -> AsyncIterator[Api]:
    """A node that registers with this cloud controller."""
    url = cloud if isinstance(cloud, str) else cloud.url
    async with running_api(state, f"gateway: {{token: {TOKEN}, cloud_controller: '{url}', {more}}}") as api:
        yield api


async def ready(api: Api, cloud: CloudController) -> None:
    """Return once the cloud controller knows the gateway, and the gateway answers."""
    await cloud.until(lambda: bool(cloud.offerings))
    await until(lambda: not api.server.standing.waiting)


async def test_a_port_is_leased_and_given_back_through_a_cloud_controller(tmp_path: Path) -> None:
    async with cloud_controller() as cloud:
        async with node_of(cloud, tmp_path) as api:
            await ready(api, cloud)
            assert cloud.offerings[0]["url"] == api.server.url
            service_id = (await cloud.create_service("udp-game"))["service_id"]
            bound = await cloud.bind_service(service_id, app_id="7")
            assert bound["credentials"]["port"] == api.node.service("udp-game").service.port
            await cloud.unbind_service(service_id, bound["service_id"])
            await cloud.delete_service(service_id)
            assert api.names == []
            assert api.node.warnings() == ()
        assert [entry["active"] for entry in cloud.offerings][-1] is False


async def test_after_a_restart_both_know_the_same(tmp_path: Path) -> None:
    async with cloud_controller() as cloud:
        async with node_of(cloud, tmp_path) as api:
            await ready(api, cloud)
            service_id = (await cloud.create_service("web"))["service_id"]
            bound = await cloud.bind_service(service_id, app_id="7")
        async with node_of(cloud, tmp_path) as api:
            await ready(api, cloud)
            assert api.node.warnings() == ()
            await cloud.unbind_service(service_id, bound["service_id"])
            await cloud.delete_service(service_id)
            assert api.names == []


async def test_F06_what_the_cloud_controller_never_heard_of_is_told_after_a_restart(tmp_path: Path) -> None:
    async with cloud_controller() as cloud:
        async with node_of(cloud, tmp_path) as api:
            await ready(api, cloud)
            lost = await cloud.create_service("orphan")
            del cloud.handles[lost["service_id"]]
            gone = (await cloud.create_service("gone"))["service_id"]
            await api.tcp("POST", "/v1/services", {"name": "native"})
            await api.node.delete_service("gone", actor="test")
        async with node_of(cloud, tmp_path) as api:
            await ready(api, cloud)
            warnings = (await api.tcp("GET", "/v1/node")).body["warnings"]
            assert [line for line in warnings if f"lists {gone}, which this node does not have" in line]
            assert [line for line in warnings if "does not list service orphan;" in line]
            assert len(warnings) == 2
            with pytest.raises(Refusal, match="30300"):
                await cloud.delete_service(gone)
            assert (await api.tcp("DELETE", "/v1/services/orphan")).status == 204
            assert api.node.warnings() == ()


async def ask(api: Api) -> tuple[int, int]:
    """Status and number of an answer of the gateway."""
    headers = {"X-VCAP-Service-Token": TOKEN, "Content-Type": "application/json"}
    url = f"{api.tcp.url}/gateway/v1/configurations"
    body = aiohttp.JsonPayload({"label": "harbor-1.0", "name": "a"})
    async with api.tcp.session.post(url, data=body, headers=headers) as answer:
        return answer.status, (await answer.json()).get("code")


async def test_G04_until_the_handles_are_fetched_the_gateway_is_shut_and_all_else_works(tmp_path: Path) -> None:
    async with cloud_controller() as cloud:

        async def fail(_: web.Request) -> web.Response:
            return web.Response(status=500)

        cloud.fault = fail
        async with node_of(cloud, tmp_path) as api:
            await cloud.until(lambda: cloud.requests >= 2)
            assert await ask(api) == (503, 30600)
            assert (await api.tcp("POST", "/v1/services", {"name": "native"})).status == 201
            ready_or_not = await api.tcp("GET", "/readyz", headers={"Authorization": None})
            assert (ready_or_not.status, ready_or_not.body["status"]) == (200, "ready")
            assert "the gateway waits for the handles of its cloud controller" in ready_or_not.body["warnings"]
            assert cloud.url not in ready_or_not.text
            await until(lambda: len(api.node.warnings()) == 2)
            assert f"{cloud.url} answers 500" in str(api.node.warnings())
            cloud.fault = None
            await ready(api, cloud)
            assert (await ask(api))[0] == 200
            await until(lambda: api.node.warnings() == ())
            assert (await api.tcp("GET", "/readyz")).body == {"status": "ready"}


async def test_a_cloud_controller_that_hangs_holds_up_neither_start_nor_traffic(tmp_path: Path) -> None:
    async with cloud_controller() as cloud:

        async def hang(_: web.Request) -> web.Response:
            await asyncio.Event().wait()
            return web.Response()

        cloud.fault = hang
        async with node_of(cloud, tmp_path) as api:
            made = (await api.tcp("POST", "/v1/services", {"name": "a"})).body
            _, writer = await asyncio.open_connection("127.0.0.1", made["port"])
            writer.close()
            assert await ask(api) == (503, 30600)


async def test_a_cloud_controller_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    async with cloud_controller() as cloud:
        url = cloud.url
    async with node_of(url, tmp_path) as api:
        assert (await api.tcp("GET", "/v1/node")).status == 200
        await until(lambda: "Connection refused" in str(api.node.warnings()))


async def test_the_address_that_is_announced_can_be_set(tmp_path: Path) -> None:
    async with cloud_controller() as cloud:
        async with node_of(cloud, tmp_path, "url: 'https://harbor.example:7070/'") as api:
            await ready(api, cloud)
        assert {entry["url"] for entry in cloud.offerings} == {"https://harbor.example:7070"}


async def test_without_a_cloud_controller_the_gateway_answers_at_once(tmp_path: Path) -> None:
    async with running_api(tmp_path, f"gateway: {{token: {TOKEN}}}") as api:
        assert (await ask(api))[0] == 200
        assert (await api.tcp("GET", "/readyz")).body == {"status": "ready"}
