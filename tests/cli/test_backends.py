from __future__ import annotations

import pytest
from click import BadParameter
from hypothesis import given
from hypothesis import strategies as st

from cli.conftest import Shell
from harbor.cli.backends import default_id, host_and_port
from harbor.policy.naming import NAME


async def test_a_backend_from_its_registration_to_its_end(harbor: Shell) -> None:
    assert harbor.api is not None
    await harbor("create-service", "a")
    first = await harbor("register", "a", "127.0.0.1:8080", "--ttl", "60", "--instance", "web.1")
    assert (first.code, first.out) == (0, "registered 127.0.0.1-8080 with a: up\n")
    again = await harbor("register", "a", "127.0.0.1:8080", "--ttl", "60", "--instance", "web.1")
    assert again.out == "renewed 127.0.0.1-8080 with a: up\n"

    listed = await harbor("backends", "a")
    assert listed.out.splitlines()[1].split()[:3] == ["127.0.0.1-8080", "127.0.0.1:8080", "up"]
    assert " of 60s " in listed.out
    in_json = (await harbor("backends", "a", "--json")).json
    assert [(backend["id"], backend["instance"]) for backend in in_json] == [("127.0.0.1-8080", "web.1")]

    assert "draining" in (await harbor("drain", "a", "127.0.0.1-8080")).out
    gone = await harbor("deregister", "a", "127.0.0.1-8080")
    assert (gone.code, gone.out) == (0, "deregistered 127.0.0.1-8080 from a\n")


async def test_a_backend_keeps_the_id_that_it_is_given(harbor: Shell) -> None:
    await harbor("create-service", "a")
    made = await harbor("register", "a", "127.0.0.1:8080", "--id", "web-1", "--json")
    assert made.json["id"] == "web-1"


async def test_who_may_not_be_a_backend_is_told_why(harbor: Shell) -> None:
    await harbor("create-service", "a")
    ran = await harbor("register", "a", "169.254.169.254:80")
    assert ran.code == 1
    assert "backends.allow" in ran.err


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.5:8080", "10.0.0.5", 8080),
        ("web.internal:80", "web.internal", 80),
        ("[fd00::5]:8080", "fd00::5", 8080),
        ("x:65535", "x", 65535),
    ],
)
def test_an_address_is_taken_apart(text: str, host: str, port: int) -> None:
    assert host_and_port(text) == (host, port)


@pytest.mark.parametrize("text", ["", "x", ":80", "x:", "x:0", "x:65536", "fd00::5:80", "[fd00::5]", "x:80:90", "x:٨"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadParameter):
        host_and_port(text)


@given(st.text(min_size=1), st.integers(1, 65535))
def test_a_default_id_is_always_an_id(host: str, port: int) -> None:
    assert NAME.fullmatch(default_id(host, port))


def test_a_default_id_tells_the_address() -> None:
    assert default_id("10.0.0.5", 8080) == "10.0.0.5-8080"
    assert default_id("fd00::5", 8080) == "fd00--5-8080"
    assert default_id("::1", 80) == "1-80"
