"""Who may be a backend: never Harbor itself, special addresses only if they are meant, all others if listed."""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harbor.errors import Invalid, Refused
from harbor.model import Address
from harbor.policy.admission import SPECIAL, Admission, Network, parse_host

SHIPPED = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
EVERYTHING = ("0.0.0.0/0", "::/0")


def networks(*texts: str) -> list[Network]:
    return [ip_network(text) for text in texts]


def refusal(admission: Admission, host: str, port: int = 80) -> Refused:
    with pytest.raises(Refused) as caught:
        admission.check(Address(host, port))
    assert caught.value.status == 403
    return caught.value


SPECIALS = [
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "unspecified"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("169.254.169.254", "link-local"),
    ("224.0.0.1", "multicast"),
    ("255.255.255.255", "reserved"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:169.254.169.254", "link-local"),
    ("fe80::1", "link-local"),
    ("fec0::1", "reserved"),
    ("ff02::1", "multicast"),
    ("fd00:ec2::254", "cloud metadata"),
    ("fd20:ce::254", "cloud metadata"),
    ("::7f00:1", "IPv4-compatible"),
    ("64:ff9b::a9fe:a9fe", "NAT64"),
    ("2001::1", "Teredo"),
    ("2002:7f00:1::", "6to4"),
]


@pytest.mark.parametrize("allow", [SHIPPED, EVERYTHING, ()])
@pytest.mark.parametrize(("host", "kind"), SPECIALS)
def test_K04_special_addresses_are_refused_even_where_everything_is_allowed(
    allow: tuple[str, ...], host: str, kind: str
) -> None:
    refused = refusal(Admission(networks(*allow)), host)
    assert refused.code == "backend_not_allowed"
    assert f" is {kind}, " in refused.message
    assert "backends.allow" in refused.message


@pytest.mark.parametrize(("host", "kind"), SPECIALS)
def test_a_special_address_that_is_listed_is_meant(host: str, kind: str) -> None:
    ip = parse_host(host)
    whole = next(network for network, _ in SPECIAL if ip in network)
    for entry in (whole, ip_network(f"{ip}")):
        Admission([entry]).check(Address(host, 80))


@pytest.mark.parametrize("host", ["10.1.2.3", "172.31.0.1", "192.168.0.1", "fd12::1", "::ffff:10.1.2.3"])
def test_the_shipped_networks_may_have_backends(host: str) -> None:
    Admission(networks(*SHIPPED)).check(Address(host, 80))


@pytest.mark.parametrize("host", ["8.8.8.8", "172.32.0.1", "2606:4700::1", "::ffff:8.8.8.8"])
def test_K04_what_no_network_covers_is_refused_with_the_way_out(host: str) -> None:
    refused = refusal(Admission(networks(*SHIPPED)), host)
    assert refused.code == "backend_not_allowed"
    assert str(Address(host, 80)) in refused.message
    assert "add a network with" in refused.message
    Admission(networks(*EVERYTHING)).check(Address(host, 80))


def test_K05_each_address_of_a_name_is_judged_by_itself() -> None:
    admission = Admission(networks(*SHIPPED))
    assert parse_host("rebinding.test") is None
    admission.check(Address("10.0.0.1", 80))  # the first answer
    refusal(admission, "127.0.0.1")  # the second one, a moment later
    with pytest.raises(Invalid, match=r"'rebinding\.test' is a name"):
        admission.check(Address("rebinding.test", 80))


@pytest.mark.parametrize(
    ("listen", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "::ffff:127.0.0.1"),
        ("127.0.0.1", "0.0.0.0"),
        ("::1", "::"),
        ("0.0.0.0", "127.0.0.9"),
        ("0.0.0.0", "10.0.0.5"),
        ("::", "10.0.0.5"),
        ("::", "::ffff:10.0.0.5"),
        ("::", "fd00::5"),
        ("::", "::1"),
        ("10.0.0.5", "10.0.0.5"),
    ],
)
def test_K16_the_api_is_never_a_backend(listen: str, host: str) -> None:
    mine = {ip_address("10.0.0.5"), ip_address("fd00::5")}
    allow = networks("0.0.0.0/32", "127.0.0.0/8", "::/128", "::1/128", *SHIPPED)
    admission = Admission(allow, api={Address(listen, 7070)}, is_local=mine.__contains__)
    refused = refusal(admission, host, 7070)
    assert refused.code == "backend_is_api"
    admission.check(Address(host, 7071))


@pytest.mark.parametrize(
    ("listen", "host"), [("0.0.0.0", "10.0.0.6"), ("0.0.0.0", "fd00::5"), ("127.0.0.1", "10.0.0.5"), ("::", "fd00::6")]
)
def test_another_host_or_address_with_the_port_of_the_api_is_none_of_ours(listen: str, host: str) -> None:
    mine = {ip_address("10.0.0.5"), ip_address("fd00::5")}
    admission = Admission(networks(*SHIPPED), api=[Address(listen, 7070)], is_local=mine.__contains__)
    admission.check(Address(host, 7070))


def test_A18_an_open_listener_of_this_node_is_no_backend() -> None:
    listeners = {Address("0.0.0.0", 30_000)}
    mine = {ip_address("10.0.0.5")}
    admission = Admission(networks("127.0.0.0/8", *SHIPPED), listeners=listeners, is_local=mine.__contains__)
    for host in ("127.0.0.1", "10.0.0.5"):
        refused = refusal(admission, host, 30_000)
        assert refused.code == "backend_is_harbor"
        assert "in circles" in refused.message
        admission.check(Address(host, 30_001))
    listeners.add(Address("127.0.0.1", 30_001))
    refusal(admission, "127.0.0.1", 30_001)
    listeners.clear()
    admission.check(Address("127.0.0.1", 30_000))


def test_A18_the_loopback_of_a_wildcard_listener_needs_no_asking() -> None:
    assert refusal(Admission((), listeners=[Address("::", 30_000)]), "127.0.0.1", 30_000).code == "backend_is_harbor"


@pytest.mark.parametrize(
    ("text", "ip"),
    [
        ("10.0.0.1", IPv4Address("10.0.0.1")),
        ("fd00::1", IPv6Address("fd00::1")),
        ("FD00:0::1", IPv6Address("fd00::1")),
        ("::ffff:10.0.0.1", IPv4Address("10.0.0.1")),
        ("::ffff:a00:1", IPv4Address("10.0.0.1")),
    ],
)
def test_numeric_hosts_are_addresses(text: str, ip: IPv4Address | IPv6Address) -> None:
    assert parse_host(text) == ip


@pytest.mark.parametrize(
    "text",
    ["app", "app.test", "app.test.", "my_app", "4chan.org", "10.0.0.1.test", "0x7f.test", "a" * 63, "a." * 126 + "a"],
)
def test_host_names_are_left_to_dns(text: str) -> None:
    assert parse_host(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "2130706433",
        "0177.0.0.1",
        "0x7f.1",
        "0x7f000001",
        "0X7F.0.0.0x1",
        "0x",
        "127.1",
        "127.0.1",
        "127.0.0.01",
        "127.0.0.1.",
        "1.2.3.4.5",
        "256.0.0.1",
        "foo.123",
        "unix:/run/app.sock",
        "fe80::1%eth0",
        "::1%1",
        "[::1]",
        "127.0.0.1:80",
        "127.0.0.1/8",
        "::ffff:127.0.0.1::",
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "a..",
        "-a",
        "a-",
        "_dmarc.test",
        "a_",
        "a" * 64,
        "a." * 127 + "a",
        "x" * 10_240,
        "nul\0.test",
        "a b",
        " app",
        "app\n",
        "user@host",
        "http://app",
        "ünï.test",
        "１２７.0.0.1",
        "127。0。0。1",
        "*",
    ],
)
def test_K04_what_is_neither_address_nor_name_is_invalid(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_host(text)
    assert (caught.value.code, caught.value.status) == ("host_invalid", 400)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 250


@given(st.text(alphabet="0123456789abcdefxX.:_-%[]/ ", max_size=20) | st.text(max_size=300))
def test_K04_no_name_is_an_address_to_the_c_library(text: str) -> None:
    with suppress(Invalid):
        if parse_host(text) is None:
            with pytest.raises(OSError, match="illegal IP"):
                socket.inet_aton(text)


@given(st.ip_addresses(), st.lists(st.sampled_from([*SHIPPED, *EVERYTHING, "127.0.0.0/8", "::1/128"])))
def test_admission_is_allowed_and_not_special_unless_meant(ip: IPv4Address | IPv6Address, allow: list[str]) -> None:
    entries = networks(*allow)
    judged = parse_host(str(ip))
    assert judged is not None
    special = [network for network, _ in SPECIAL if judged in network]
    covering = [entry for entry in entries if judged in entry]
    meant = [e for e in covering if not special or e.prefixlen >= special[0].prefixlen]
    if meant:
        Admission(entries).check(Address(str(ip), 80))
    else:
        assert refusal(Admission(entries), str(ip)).code == "backend_not_allowed"
