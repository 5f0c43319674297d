"""Where a proxy does not do what a case says: declared at the case, expected by the suite, told on the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

C = TypeVar("C", bound=Callable[..., None])

PROXIES: Final = ("nginx", "haproxy", "harbor")
REFERENCES: Final = ("nginx", "haproxy")
NO_UDP: Final = "forwards no UDP"


def differs(**reasons: str) -> Callable[[C], C]:
    """These proxies fail this case, and why: ``@differs(nginx="...")``. One that passes fails the suite."""
    assert set(reasons) <= set(PROXIES), reasons
    assert not set(reasons) >= set(REFERENCES), "a case that no reference passes is none"

    def note(case: C) -> C:
        vars(case)["differences"] = reasons
        return case

    return note


def differences_of(case: Callable[..., Any]) -> Mapping[str, str]:
    """Proxy -> why it fails this case."""
    found: Mapping[str, str] = vars(case).get("differences", {})
    return found
