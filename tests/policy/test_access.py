"""Who may come in, by address: against ``ipaddress``, which goes through all networks."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harbor.policy.access import Access, number_of

ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
# Few distinct bits, so that networks and addresses meet.
NEAR = st.one_of(
    st.sampled_from([0, 1, 2, 3, 128, 255]).map(lambda last: f"10.0.0.{last}"),
    st.sampled_from([0, 1, 2, 0x8000]).map(lambda last: f"2001:db8::{last:x}"),
)


@st.composite
def networks(draw: st.DrawFn) -> str:
    address = draw(NEAR)
    length = draw(st.integers(0, 128 if ":" in address else 32))
    return str(ipaddress.ip_network(f"{address}/{length}", strict=False))


def is_in(host: str, nets: list[str]) -> bool:
    return any(ipaddress.ip_address(host) in ipaddress.ip_network(net) for net in nets)


@given(st.lists(networks(), max_size=6), st.lists(networks(), max_size=6), st.one_of(NEAR, ADDRESSES.map(str)))
def test_deny_wins_and_where_something_is_allowed_all_else_is_not(allow: list[str], deny: list[str], host: str) -> None:
    admitted = not is_in(host, deny) and (not allow or is_in(host, allow))
    assert Access(tuple(allow), tuple(deny)).admits(host) is admitted


@given(ADDRESSES)
def test_an_address_is_the_number_that_it_stands_for(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert number_of(str(address)) == int(address)


def test_the_interface_of_a_link_local_address_does_not_matter() -> None:
    access = Access(("fe80::/10",), ())
    assert access.admits("fe80::1%eth0")
    assert not access.admits("fd00::1")


@pytest.mark.parametrize("network", ["::ffff:10.0.0.0/104", "::ffff:10.1.2.3"])
def test_a_network_of_mapped_addresses_is_one_of_ipv4(network: str) -> None:
    text = str(ipaddress.ip_network(network))
    assert not Access((), (text,)).admits("10.1.2.3")
    assert Access((), (text,)).admits("11.1.2.3")
    assert Access((text,), ()).admits("10.1.2.3")


def test_all_of_ipv6_is_not_all_of_ipv4() -> None:
    assert Access((), ("::/0",)).admits("192.0.2.1")
    assert Access(("0.0.0.0/0",), ()).admits("192.0.2.1")
    assert not Access(("0.0.0.0/0",), ()).admits("2001:db8::1")


class Counting(set[int]):
    """A set that knows how often it was asked."""

    asked = 0

    def __contains__(self, member: object) -> bool:
        Counting.asked += 1
        return super().__contains__(member)


def test_ten_thousand_networks_cost_as_many_look_ups_as_they_have_lengths() -> None:
    many = tuple(f"10.{number >> 8}.{number & 255}.0/{length}" for number in range(5_000) for length in (24, 25))
    access = Access((), many)
    assert access._denied is not None
    prefixes = access._denied._four
    prefixes._by_shift = [(shift, Counting(members)) for shift, members in prefixes._by_shift]
    assert access.admits("192.0.2.1")
    assert Counting.asked == 2
    assert not access.admits("10.19.135.200")
    assert access.admits("10.19.136.1")
