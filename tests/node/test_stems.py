"""Which files belong to whom, by their names alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harbor.model import Exposure, Protocol, Service
from harbor.node.stems import stems


def service(name: str) -> Service:
    return Service(f"id-{name}", name, Protocol.TCP, 1, 2, Exposure.PRIVATE)


def test_further_pairs_have_a_label() -> None:
    names = [
        "web+a.crt",
        "web+a.key",
        "web.crt",
        "harbor+b.key",
        "other+c.crt",
        "web+.crt",
        "web+a/b.crt",
        "web+x+y.crt",
    ]
    assert dict(stems([service("web")], names, [])) == {
        "": "harbor", "id-web": "web", "id-web+a": "web+a", "+b": "harbor+b",
    }  # fmt: skip


def test_what_was_there_is_looked_for() -> None:
    known = ["id-web+a", "id-gone+b", "id-web"]
    assert dict(stems([service("web")], [], known)) == {"": "harbor", "id-web": "web", "id-web+a": "web+a"}


def test_a_service_named_as_the_node_s_files_has_them_too() -> None:
    found = dict(stems([service("harbor")], ["harbor+a.crt"], []))
    assert found == {"": "harbor", "id-harbor": "harbor", "+a": "harbor+a", "id-harbor+a": "harbor+a"}


@given(st.lists(st.text(alphabet="web+./\0~", max_size=12), max_size=8))
def test_K06_D12_no_file_of_one_service_is_another_s_and_none_leads_elsewhere(names: list[str]) -> None:
    found = dict(stems([service("web"), service("we"), service("b.e")], names, []))
    for owner, stem in found.items():
        assert "/" not in stem
        assert "\0" not in stem
        assert stem.partition("+")[0] == {"": "harbor"}.get(owner.partition("+")[0], owner.partition("+")[0][3:])
