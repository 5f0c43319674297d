"""A platform that speaks the Open Service Broker API to a node."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Final

from harbor.api.broker.catalog import PLAN_LIST, SERVICE_ID
from support.running_api import Answer, Api

USER: Final = "platform"
PASSWORD: Final = "sesame"
BROKER: Final = f"broker: {{username: {USER}, password: {PASSWORD}, credentials: [{{password: sesame-2}}]}}"
PLANS: Final = {plan.name: plan.id for plan in PLAN_LIST}


def basic(username: str = USER, password: str = PASSWORD) -> str:
    """The Authorization header."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def identity(platform: str = "cloudfoundry", **value: Any) -> str:
    """The originating identity header."""
    return f"{platform} {base64.b64encode(json.dumps(value).encode()).decode()}"


def wanted(plan: str = "tcp", parameters: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The body of a provision request; ``name`` is the instance's."""
    context = {"platform": "cloudfoundry", "organization_guid": "org-1", "space_guid": "space-1"}
    if "name" in more:
        context["instance_name"] = more.pop("name")
    body = {"service_id": SERVICE_ID, "plan_id": PLANS[plan], "context": context, **more}
    body |= {"organization_guid": "org-1", "space_guid": "space-1", **more}
    return body if parameters is None else {**body, "parameters": parameters}


def chosen(plan: str = "tcp") -> str:
    """The query of a delete request."""
    return f"service_id={SERVICE_ID}&plan_id={PLANS[plan]}"


@dataclass
class Platform:
    """Asks one broker. Instances and bindings go by the platform's own ids."""

    api: Api

    async def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        headers = {"X-Broker-API-Version": "2.17", "Authorization": basic(), **more.pop("headers", {})}
        return await self.api.tcp(method, f"/v2{path}", body, headers=headers, **more)

    async def provision(self, instance: str, plan: str = "tcp", **more: Any) -> Answer:
        return await self("PUT", f"/service_instances/{instance}?accepts_incomplete=true", wanted(plan, **more))

    async def update(self, instance: str, **body: Any) -> Answer:
        return await self("PATCH", f"/service_instances/{instance}", {"service_id": SERVICE_ID, **body})

    async def fetch(self, instance: str) -> Answer:
        return await self("GET", f"/service_instances/{instance}")

    async def deprovision(self, instance: str, plan: str = "tcp") -> Answer:
        return await self("DELETE", f"/service_instances/{instance}?{chosen(plan)}")

    async def bind(self, instance: str, binding: str, plan: str = "tcp", **more: Any) -> Answer:
        body = {"service_id": SERVICE_ID, "plan_id": PLANS[plan], **more}
        return await self("PUT", f"/service_instances/{instance}/service_bindings/{binding}", body)

    async def fetch_binding(self, instance: str, binding: str) -> Answer:
        return await self("GET", f"/service_instances/{instance}/service_bindings/{binding}")

    async def unbind(self, instance: str, binding: str, plan: str = "tcp") -> Answer:
        return await self("DELETE", f"/service_instances/{instance}/service_bindings/{binding}?{chosen(plan)}")

    async def port(self, instance: str) -> int:
        """The port of an instance."""
        return int((await self.fetch(instance)).body["metadata"]["attributes"]["port"])
