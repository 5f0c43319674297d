from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harbor.api.broker.quotas import Grant, Tenant, check_ports, larger, sessions_for
from harbor.config import Quota
from harbor.errors import Refused

DEFAULT = 100
TENANTS = st.builds(Tenant, st.sampled_from(["", "o1", "o2"]), st.sampled_from(["", "s1", "s2"]))
LIMITS = st.none() | st.integers(0, 500)


def each(ports: int | None = None, sessions: int | None = None, **whose: str) -> Quota:
    return Quota(ports=ports, sessions=sessions, **(whose or {"organization": "*"}))  # type: ignore[arg-type]


def test_a_named_quota_stands_in_place_of_the_one_for_each() -> None:
    quotas = (each(ports=0), each(ports=1, organization="o1"))
    check_ports(quotas, Tenant("o1", "s"), [])
    with pytest.raises(Refused, match="organization 'o2' may have 0"):
        check_ports(quotas, Tenant("o2", "s"), [])


def test_organisation_and_space_both_have_a_say() -> None:
    quotas = (each(ports=2), each(ports=1, space="*"))
    one = Grant(Tenant("o", "a"), 1)
    check_ports(quotas, Tenant("o", "b"), [one])
    with pytest.raises(Refused, match="space 'a'"):
        check_ports(quotas, Tenant("o", "a"), [one])
    with pytest.raises(Refused, match="organization 'o'"):
        check_ports(quotas, Tenant("o", "c"), [one, Grant(Tenant("o", "b"), 1)])


def test_namespaces_of_one_name_in_two_clusters_are_two() -> None:
    check_ports((each(ports=1, space="*"),), Tenant("cluster-1", "default"), [Grant(Tenant("cluster-2", "default"), 1)])


def test_without_a_quota_nothing_is_granted_or_refused() -> None:
    assert sessions_for((), Tenant(), [], None, DEFAULT) is None
    assert sessions_for((), Tenant(), [], 0, DEFAULT) == 0
    assert sessions_for((each(ports=1),), Tenant(), [], None, DEFAULT) is None


def test_a_service_without_limit_uses_a_quota_up() -> None:
    with pytest.raises(Refused, match="0 are left"):
        sessions_for((each(sessions=50),), Tenant("o"), [Grant(Tenant("o"), 0)], 1, DEFAULT)
    assert larger(0, 5) == larger(5, 0) == 0
    assert larger(3, 5) == 5


@given(st.integers(0, 1000), st.lists(st.tuples(TENANTS, st.none() | st.integers(0, 400)), max_size=20))
def test_what_is_granted_in_all_never_exceeds_the_quota(quota: int, requests: list[tuple[Tenant, int | None]]) -> None:
    quotas = (each(sessions=quota),)
    granted: list[Grant] = []
    for tenant, asked in requests:
        before = sum(grant.sessions for grant in granted if grant.tenant.organization == tenant.organization)
        try:
            given_ = sessions_for(quotas, tenant, granted, asked, DEFAULT)
        except Refused:
            assert asked == 0 or before + (asked or 1) > quota
        else:
            assert given_ is not None
            assert given_ == asked if asked is not None else 0 < given_ <= DEFAULT
            granted.append(Grant(tenant, given_))
    for organization in ("", "o1", "o2"):
        mine = [grant.sessions for grant in granted if grant.tenant.organization == organization]
        assert sum(mine) <= quota
        assert 0 not in mine


@given(st.lists(TENANTS, max_size=30), st.integers(0, 5), st.integers(0, 5))
def test_no_tenant_gets_more_ports_than_its_quotas(requests: list[Tenant], organization: int, space: int) -> None:
    quotas = (each(ports=organization), each(ports=space, space="*"))
    granted: list[Grant] = []
    for tenant in requests:
        try:
            check_ports(quotas, tenant, granted)
        except Refused:
            full = [grant for grant in granted if grant.tenant.organization == tenant.organization]
            assert len(full) == organization or granted.count(Grant(tenant, 1)) == space
        else:
            granted.append(Grant(tenant, 1))
    for tenant in set(requests):
        assert granted.count(Grant(tenant, 1)) <= space
        assert sum(grant.tenant.organization == tenant.organization for grant in granted) <= organization


def test_F13_ten_thousand_grants_are_looked_at_once_for_each_limit() -> None:
    looked = 0

    def grants() -> Iterator[Grant]:
        nonlocal looked
        for number in range(10_000):
            looked += 1
            yield Grant(Tenant(f"o{number % 10}", f"s{number}"), 1)

    quotas = (*(each(ports=1, organization=f"x{number}") for number in range(1000)), each(ports=1001, sessions=1001))
    check_ports(quotas, Tenant("o1", "new"), grants())
    assert sessions_for(quotas, Tenant("o1", "new"), grants(), None, DEFAULT) == 1
    assert looked == 20_000
