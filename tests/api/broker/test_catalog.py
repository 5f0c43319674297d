"""The catalog says what the broker does: its ids never change, its schemas know every parameter."""

from __future__ import annotations

import json

from harbor.api.broker.catalog import catalog
from harbor.api.broker.requests import FIXED, BindParameters, Parameters
from harbor.model.policy import FIELDS
from support.osb_platform import Platform

# Platforms know the offering and its plans by these: a changed id is another offering, and orphans all instances.
IDS = {
    "harbor": "d3ed0e63-6a9d-4038-bf1f-acd3169d9449",
    "tcp": "c07c4647-6cb3-46ac-b2cc-9e46507540fd",
    "udp": "c69a23ec-125f-4e0b-933d-60e74356e222",
    "both": "4708bfc2-2f2d-4a3a-bb88-680b332002a6",
    "https": "0cbb766b-94ca-475d-ae63-31ba3f40b71c",
}
LARGEST_SCHEMA = 64 * 1024


async def test_the_catalog_offers_one_service_with_a_plan_for_each_protocol(platform: Platform) -> None:
    answer = await platform("GET", "/catalog")
    assert answer.status == 200
    [offering] = answer.body["services"]
    assert {thing["name"]: thing["id"] for thing in (offering, *offering["plans"])} == IDS
    for promise in (
        "bindable",
        "instances_retrievable",
        "bindings_retrievable",
        "plan_updateable",
        "allow_context_updates",
    ):
        assert offering[promise] is True
    for plan in offering["plans"]:
        assert (plan["free"], plan["bindable"], plan["plan_updateable"]) == (True, True, True)
        assert 0 < len(plan["description"]) <= 255


def test_the_schemas_know_every_parameter_and_no_other() -> None:
    for plan in catalog()["services"][0]["plans"]:
        schemas = plan["schemas"]
        create = schemas["service_instance"]["create"]["parameters"]
        update = schemas["service_instance"]["update"]["parameters"]
        bind = schemas["service_binding"]["create"]["parameters"]
        fixed = set(FIXED) - ({"tls"} if plan["name"] == "udp" else set())
        assert set(create["properties"]) == {*fixed, *FIELDS}
        assert set(update["properties"]) == set(FIELDS)
        assert set(bind["properties"]) == set(BindParameters.model_fields)
        for schema in (create, update, bind):
            assert schema["$schema"] == "http://json-schema.org/draft-04/schema#"
            assert schema["additionalProperties"] is False
            assert all(member["description"] for member in schema["properties"].values())
            assert len(json.dumps(schema)) < LARGEST_SCHEMA
    assert set(Parameters.model_fields) == {*FIXED, *FIELDS}


async def test_what_the_schema_allows_is_accepted_up_to_its_bounds(platform: Platform) -> None:
    for number, bound in enumerate(("minimum", "maximum")):
        schema = catalog()["services"][0]["plans"][0]["schemas"]["service_instance"]["update"]["parameters"]
        parameters = {name: member[bound] for name, member in schema["properties"].items() if bound in member}
        answer = await platform.provision(f"i-{number}", parameters={**parameters, "removal": "keep"})
        assert answer.status == 201, answer.text
        fetched = (await platform.fetch(f"i-{number}")).body["parameters"]
        assert fetched == {**parameters, "removal": "keep"}
