"""Certificates through the API: put, shown, forgotten; and never a key in what it says."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from harbor.node.certificates import MOST_UPLOADED
from support.pairs import Made, make
from support.running_api import FIRST_PORT, Api, running_api
from support.tls_services import put_tls_services

GOOD = make("shop.example", "127.0.0.1", days=90)
EXPIRED = make("shop.example", days=-1)
CA = make(subject="Clients", is_ca=True)


@pytest.fixture
async def tls_api(tmp_path: Path) -> AsyncIterator[Api]:
    """A node with two services whose TLS it ends."""
    await put_tls_services(tmp_path, range(FIRST_PORT, FIRST_PORT + 10), "shop", "blog")
    async with running_api(tmp_path, extra=f"certs_dir: {tmp_path}/certs") as running:
        yield running


def body(made: Made) -> dict[str, str]:
    return {"certificate": made.chain, "key": made.key}


async def test_a_certificate_from_its_upload_to_its_end(tls_api: Api) -> None:
    first = await tls_api.tcp("GET", "/v1/certificates/shop")
    assert (first.status, first.body["source"]) == (200, "self_signed")
    shown = await tls_api.tcp("PUT", "/v1/certificates/shop", body(GOOD))
    assert shown.status == 200, shown.text
    assert shown.body == (await tls_api.tcp("GET", "/v1/certificates/id-shop")).body
    assert shown.body == {
        "service": "shop",
        "source": "uploaded",
        "subject": "CN=shop.example",
        "issuer": "CN=shop.example",
        "names": ["shop.example", "127.0.0.1"],
        "not_before": GOOD.x509.not_valid_before_utc.timestamp(),
        "not_after": GOOD.x509.not_valid_after_utc.timestamp(),
        "days_left": 89,
        "fingerprint": GOOD.fingerprint,
        "key": "ECDSA P-256",
        "findings": [],
    }
    assert [one["service"] for one in (await tls_api.tcp("GET", "/v1/certificates")).body] == ["blog", "shop"]
    page = await tls_api.tcp("GET", "/v1/certificates?limit=1")
    assert [one["service"] for one in page.body] == ["blog"]
    assert "after=blog" in page.headers["Link"]
    assert (await tls_api.tcp("DELETE", "/v1/certificates/shop")).status == 204
    assert (await tls_api.tcp("GET", "/v1/certificates/shop")).body == first.body
    again = await tls_api.tcp("DELETE", "/v1/certificates/shop")
    assert (again.status, again.code) == (404, "certificate_not_found")


async def test_D19_no_answer_metric_or_event_holds_a_key(tls_api: Api) -> None:
    refused = await tls_api.tcp("PUT", "/v1/certificates/shop", body(EXPIRED))
    assert (refused.status, refused.code) == (400, "certificate_expired")
    said = [refused, await tls_api.tcp("PUT", "/v1/certificates/shop", body(GOOD))]
    said += [await tls_api.tcp("PUT", "/v1/certificates/shop", body(GOOD) | {"extra": GOOD.key})]
    said += [await tls_api.tcp("PUT", "/v1/certificates/shop", {"certificate": [GOOD.key], "key": {"a": GOOD.key}})]
    said += [await tls_api.tcp("PUT", "/v1/certificates/shop", {"certificate": GOOD.key, "key": GOOD.chain})]
    said += [await tls_api.tcp("GET", path) for path in ("/v1/events", "/metrics", "/v1/certificates", "/v1/services")]
    for answer in said:
        for made in (GOOD, EXPIRED):
            assert made.key.splitlines()[2] not in answer.text
    assert [answer.status for answer in said[2:5]] == [400, 400, 400]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"certificate": GOOD.chain}, "invalid"),
        ({"certificate": 5, "key": GOOD.key}, "invalid"),
        ({"certificate": "", "key": GOOD.key}, "certificate_invalid"),
        ({"certificate": GOOD.chain, "key": ""}, "key_invalid"),
        ({"certificate": GOOD.chain, "key": EXPIRED.key}, "key_mismatch"),
        ({"certificate": "\ud800", "key": GOOD.key}, "json_invalid"),
    ],
)
async def test_a_wrong_upload_is_refused(tls_api: Api, wrong: Any, code: str) -> None:
    refused = await tls_api.tcp("PUT", "/v1/certificates/shop", wrong)
    assert (refused.status, refused.code) == (400, code)


async def test_names_that_are_none_are_not_found(tls_api: Api) -> None:
    for name in ("nobody", "..%2f..%2fetc%2fpasswd", "%2e%2e"):
        for method in ("GET", "PUT", "DELETE"):
            answer = await tls_api.tcp(method, f"/v1/certificates/{name}", body(GOOD) if method == "PUT" else None)
            assert answer.status in (404, 405)


async def test_K03_the_token_of_a_binding_manages_no_certificates(tls_api: Api) -> None:
    bound = await tls_api.tcp("POST", "/v1/services/shop/bindings", {"app": "web"})
    bearer = {"Authorization": f"Bearer {bound.body['token']}"}
    for method in ("GET", "PUT", "DELETE"):
        answer = await tls_api.tcp(method, "/v1/certificates/shop", headers=bearer)
        assert (answer.status, answer.code) == (403, "token_scope")


async def test_the_metric_tells_when_each_expires(tls_api: Api) -> None:
    await tls_api.tcp("PUT", "/v1/certificates/shop", body(GOOD))
    lines = (await tls_api.tcp("GET", "/metrics")).text.splitlines()
    told = dict(line.rsplit(" ", 1) for line in lines if line.startswith("harbor_certificate_not_after_seconds{"))
    assert sorted(told) == [f'harbor_certificate_not_after_seconds{{service="{name}"}}' for name in ("blog", "shop")]
    expected = GOOD.x509.not_valid_after_utc.timestamp()
    assert float(told['harbor_certificate_not_after_seconds{service="shop"}']) == expected
    assert expected > time.time()


async def test_a_service_has_several_uploaded_certificates_by_label(tls_api: Api) -> None:
    where = "/v1/certificates/shop"
    blog = make("blog.example")
    assert (await tls_api.tcp("PUT", where, body(GOOD))).status == 200
    put = await tls_api.tcp("PUT", f"{where}?label=blog", body(blog))
    assert put.status == 200, put.text
    assert put.body["fingerprint"] == GOOD.fingerprint
    assert [(one["label"], one["fingerprint"]) for one in put.body["further"]] == [("blog", blog.fingerprint)]
    port = (await tls_api.tcp("GET", "/v1/services/shop")).body["port"]
    for name, made in (("blog.example", blog), ("shop.example", GOOD), ("other.example", GOOD)):
        assert await asyncio.to_thread(_shown_at, port, name) == made.fingerprint
    for wrong in ("", "a/b", "x" * 64, "a+b"):
        refused = await tls_api.tcp("PUT", f"{where}?label={quote(wrong, safe='')}", body(blog))
        assert (refused.status, refused.code) == (400, "label_invalid")
    assert (await tls_api.tcp("DELETE", f"{where}?label=blog")).status == 204
    assert "further" not in (await tls_api.tcp("GET", where)).body
    again = await tls_api.tcp("DELETE", f"{where}?label=blog")
    assert (again.status, again.code) == (404, "certificate_not_found")


async def test_a_service_has_a_bounded_number_of_certificates(tls_api: Api) -> None:
    for number in range(MOST_UPLOADED):
        put = await tls_api.tcp("PUT", f"/v1/certificates/shop?label=n{number}", body(GOOD))
        assert put.status == 200, put.text
    refused = await tls_api.tcp("PUT", "/v1/certificates/shop", body(GOOD))
    assert (refused.status, refused.code) == (409, "certificates_exhausted")
    assert (await tls_api.tcp("PUT", "/v1/certificates/shop?label=n0", body(GOOD))).status == 200


def _shown_at(port: int, name: str) -> str:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 10) as raw,
        context.wrap_socket(raw, server_hostname=name) as client,
    ):
        return hashlib.sha256(client.getpeercert(binary_form=True) or b"").hexdigest()


async def test_rules_of_tls_are_shown_and_changed_one_by_one(tls_api: Api) -> None:
    rules = (await tls_api.tcp("GET", "/v1/services/shop")).body["tls_rules"]
    assert rules == {"min_version": "1.2", "alpn": [], "verify": "none", "unknown_name": "default"}
    changes = {"verify": "required", "ca": CA.own, "alpn": ["http/1.1"]}
    changed = await tls_api.tcp("PATCH", "/v1/services/shop", {"tls_rules": changes})
    assert changed.status == 200, changed.text
    assert changed.body["tls_rules"] == rules | {
        "verify": "required", "alpn": ["http/1.1"], "ca": changed.body["tls_rules"]["ca"],
    }  # fmt: skip
    back = await tls_api.tcp("PATCH", "/v1/services/shop", {"tls_rules": {"verify": None, "ca": None}})
    assert back.body["tls_rules"] == rules | {"alpn": ["http/1.1"]}
    for wrong, code in (
        ({"verify": "required"}, "tls_rules_invalid"),
        ({"ca": GOOD.own}, "tls_rules_invalid"),
        ({"min_version": "1.1"}, "invalid"),
        ({"colour": "blue"}, "invalid"),
    ):
        refused = await tls_api.tcp("PATCH", "/v1/services/shop", {"tls_rules": wrong})
        assert (refused.status, refused.code) == (400, code)


async def test_rules_for_a_service_without_tls_are_refused(api: Api) -> None:
    refused = await api.tcp("POST", "/v1/services", {"name": "plain", "tls_rules": {"min_version": "1.3"}})
    assert (refused.status, refused.code) == (400, "tls_rules_invalid")
    assert "ask for tls: node" in refused.body["detail"]
    await api.tcp("POST", "/v1/services", {"name": "plain"})
    refused = await api.tcp("PUT", "/v1/certificates/plain", body(GOOD))
    assert (refused.status, refused.code) == (409, "tls_off")


async def test_K07_what_others_wrote_is_never_served_as_a_page(tls_api: Api) -> None:
    script = "<script>alert(1)</script>"
    put = await tls_api.tcp("PUT", "/v1/certificates/shop", body(make("shop.example", subject=script)))
    assert "script" in put.body["subject"]
    backend = {"host": "127.0.0.1", "port": 9, "instance": script}
    assert (await tls_api.tcp("PUT", "/v1/services/shop/backends/b", backend)).body["instance"] == script
    answers = [
        await tls_api.tcp("GET", path)
        for path in (
            "/v1/certificates/shop",
            "/v1/services/shop/backends",
            "/v1/events",
            f"/v1/services/{quote(script, safe='')}",
            f"/{quote(script, safe='')}",
            f"/v1/sessions?client={quote(script)}",
        )
    ]
    answers.append(await tls_api.tcp("POST", "/v1/services", {"name": script, script: script}))
    assert sum(script in answer.text for answer in answers) > 4
    for answer in answers:
        assert answer.headers["content-type"] in ("application/json", "application/problem+json")
        assert answer.headers["x-content-type-options"] == "nosniff"
    page = await tls_api.tcp("GET", "/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert script not in page.text
