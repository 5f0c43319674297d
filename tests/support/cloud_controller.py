"""A small cloud controller of Cloud Foundry v1: it takes offerings, has services made, keeps handles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

TOKEN = "a-long-random-text"
LABEL = "harbor-1.0"
Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refusal(Exception):
    """The gateway said no."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


class CloudController:
    """Made by ``cloud_controller``. While ``fault`` is set, it answers everything with that."""

    def __init__(self) -> None:
        self.offerings: list[dict[str, Any]] = []  # every one that was announced, in order
        self.handles: dict[str, dict[str, Any]] = {}
        self.asked_for_handles = 0
        self.requests = 0
        self.fault: Fault | None = None
        self.url = ""
        self._news = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once the condition holds; looked at after every request."""
        async with asyncio.timeout(20):
            while not condition():
                await self._news.wait()
                self._news.clear()

    # What its users do.

    async def create_service(self, name: str, **more: Any) -> dict[str, Any]:
        """Have a service made, as ``stackato create-service harbor NAME`` has it."""
        body = {"label": LABEL, "name": name, "email": "dev@example.com", "plan": "free", "version": "1.0", **more}
        return await self._keep(await self._call("POST", "", body))

    async def bind_service(self, service_id: str, **more: Any) -> dict[str, Any]:
        """Have a handle made for an app."""
        body = {"service_id": service_id, "label": LABEL, "email": "dev@example.com", "binding_options": {}, **more}
        return await self._keep(await self._call("POST", f"/{service_id}/handles", body))

    async def unbind_service(self, service_id: str, handle_id: str) -> None:
        body = {"service_id": service_id, "handle_id": handle_id, "binding_options": {}}
        await self._call("DELETE", f"/{service_id}/handles/{handle_id}", body)
        del self.handles[handle_id]

    async def delete_service(self, service_id: str) -> None:
        await self._call("DELETE", f"/{service_id}", None)
        del self.handles[service_id]

    async def _keep(self, handle: dict[str, Any]) -> dict[str, Any]:
        self.handles[handle["service_id"]] = handle
        return handle

    async def _call(self, method: str, path: str, body: Any) -> Any:
        """Ask the gateway at the address that it announced."""
        assert self._session is not None
        url = f"{self.offerings[-1]['url']}/gateway/v1/configurations{path}"
        headers = {"X-VCAP-Service-Token": TOKEN, "Content-Type": "application/json"}
        content = None if body is None else aiohttp.JsonPayload(body)
        async with self._session.request(method, url, data=content, headers=headers) as answer:
            said = await answer.json()
            if answer.status != 200:
                raise Refusal(answer.status, said)
            return said

    # What gateways ask of it.

    async def _offer(self, request: web.Request) -> web.StreamResponse:
        self.offerings.append(await request.json())
        return web.json_response({})

    async def _list_handles(self, request: web.Request) -> web.StreamResponse:
        self.asked_for_handles += 1
        if request.match_info["label"] != LABEL:
            return web.json_response({"code": 10000, "description": "no such offering"}, status=404)
        return web.json_response({"handles": list(self.handles.values())})

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests += 1
        self._news.set()
        try:
            if self.fault is not None:
                return await self.fault(request)
            if request.headers.get("X-VCAP-Service-Token") != TOKEN:
                return web.json_response({"code": 200, "description": "Operation not permitted"}, status=403)
            answer: web.StreamResponse = await handler(request)
            return answer
        finally:
            self._news.set()


@asynccontextmanager
async def cloud_controller(port: int = 0) -> AsyncIterator[CloudController]:
    """One that answers on loopback inside the block."""
    cloud = CloudController()
    app = web.Application(middlewares=[cloud._guard])
    app.router.add_post("/services/v1/offerings", cloud._offer)
    app.router.add_get("/services/v1/offerings/{label}/handles", cloud._list_handles)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    async with aiohttp.ClientSession() as session:
        cloud._session = session
        cloud.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield cloud
        finally:
            await runner.cleanup()
