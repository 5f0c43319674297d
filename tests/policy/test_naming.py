"""Names: what may be one, and what it says about protocol, TLS and environment."""

from __future__ import annotations

import re
import string
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harbor.errors import Invalid
from harbor.model import Protocol, Tls
from harbor.policy.naming import PLANS, check_name, protocol_for, shown, tls_for, variable_for

HEAD = string.ascii_letters + string.digits
names = st.builds(str.__add__, st.sampled_from(HEAD), st.text(alphabet=HEAD + "._-", max_size=62))


@given(names)
def test_a_proper_name_is_returned_unchanged(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 64,
        "x" * 10_240,
        "../etc/passwd",
        "a/b",
        "a\\b",
        ".hidden",
        "-flag",
        "_x",
        "nul\0byte",
        "two\r\nlines",
        "trailing\n",
        "ümlaut",
        "数字",
        "٣",  # a digit to unicode, none to us
        "a b",
        "x'; DROP TABLE services; --",
        "\x1b[31mred",
        "right\u202eleft",
        "lone\udc80surrogate",
    ],
)
def test_F07_a_hostile_name_is_refused_and_escaped(name: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_name(name)
    assert (refusal.value.code, refusal.value.status) == ("name_invalid", 400)
    assert len(refusal.value.message) < 250
    assert refusal.value.message.isprintable()


@given(st.text())
def test_F07_any_text_is_a_name_or_invalid(text: str) -> None:
    proper = 1 <= len(text) <= 63 and text[0] in HEAD and not set(text) - set(HEAD + "._-")
    with nullcontext() if proper else pytest.raises(Invalid):
        assert check_name(text) == text


@given(st.text(min_size=1, alphabet=st.characters(categories=["Cc", "Cf", "Zl", "Zp", "Cs"])))
def test_K10_what_a_message_echoes_cannot_steer_a_terminal(text: str) -> None:
    assert shown(text).isprintable()
    assert len(shown(text)) <= 80


def test_F08_a_number_too_long_to_print_is_not_printed() -> None:
    assert shown(10**5000) == "this int"
    assert shown(42) == "42"


def test_the_message_says_what_kind_of_name_is_wrong() -> None:
    with pytest.raises(Invalid, match=r"backend id 'a/b' is not valid: use 1 to 63"):
        check_name("a/b", "backend id")


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("my-port", Protocol.TCP),
        ("udp-debug-port", Protocol.UDP),
        ("udp", Protocol.UDP),
        ("both-dns", Protocol.BOTH),
        ("multi-dns", Protocol.BOTH),
        ("my-udp", Protocol.TCP),
        ("UDP-x", Protocol.TCP),
        ("https", Protocol.TCP),
    ],
)
def test_the_prefix_chooses_the_protocol(name: str, protocol: Protocol) -> None:
    assert protocol_for(name) is protocol


@pytest.mark.parametrize(("plan", "protocol"), [("tcp", "tcp"), ("udp", "udp"), ("both", "both"), ("https", "tcp")])
def test_the_plan_wins_over_the_name(plan: str, protocol: str) -> None:
    assert protocol_for("multi-x", plan) == protocol
    assert protocol_for("udp-x", plan) == protocol


@given(names, st.none() | st.sampled_from(sorted(PLANS)), st.sampled_from(Protocol))
def test_an_explicit_protocol_wins_over_all(name: str, plan: str | None, protocol: Protocol) -> None:
    assert protocol_for(name, plan, protocol) is protocol


def test_an_unknown_plan_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(Invalid, match=r"no plan 'gold\\n'; there are tcp, udp, both, https") as refusal:
        protocol_for("x", "gold\n", Protocol.TCP)
    assert refusal.value.code == "plan_unknown"
    with pytest.raises(Invalid, match="no plan ''"):
        tls_for("x", "", Tls.OFF, Protocol.TCP)


@pytest.mark.parametrize(
    ("name", "plan", "explicit", "tls"),
    [
        ("web", None, None, Tls.OFF),
        ("web-https", None, None, Tls.NODE),
        ("https", None, None, Tls.NODE),
        ("https-web", None, None, Tls.OFF),
        ("web", "https", None, Tls.NODE),
        ("web", "tcp", None, Tls.OFF),
        ("web-https", "tcp", Tls.OFF, Tls.OFF),
        ("web", None, Tls.PASSTHROUGH, Tls.PASSTHROUGH),
        ("web", "https", Tls.OFF, Tls.OFF),
    ],
)
def test_plan_or_suffix_https_asks_the_node_for_tls(
    name: str, plan: str | None, explicit: Tls | None, tls: Tls
) -> None:
    assert tls_for(name, plan, explicit, Protocol.TCP) is tls
    assert tls_for(name, plan, explicit, Protocol.BOTH) is tls


@pytest.mark.parametrize("explicit", [Tls.NODE, Tls.PASSTHROUGH, None])
def test_tls_on_a_udp_service_is_refused_with_the_way_out(explicit: Tls | None) -> None:
    with pytest.raises(Invalid, match="ask for protocol tcp or both, or tls off") as refusal:
        tls_for("udp-https", None, explicit, Protocol.UDP)
    assert refusal.value.code == "tls_needs_tcp"
    assert tls_for("udp-https", None, Tls.OFF, Protocol.UDP) is Tls.OFF


def test_the_variable_of_a_service() -> None:
    assert variable_for("udp-port") == "STACKATO_HARBOR_UDP_PORT"
    assert variable_for("a.b-c_D9") == "STACKATO_HARBOR_A_B_C_D9"


@given(names)
def test_every_name_gives_a_variable_that_a_shell_accepts(name: str) -> None:
    assert re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable_for(name), re.ASCII)
