"""The unit file that ships keeps the node in a tight box."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.needs import needs

UNIT = Path(__file__).parents[1] / "systemd" / "harbor.service"


def test_K13_the_unit_is_exposed_by_less_than_two_points_of_ten() -> None:
    analyze = needs("systemd-analyze")
    report = subprocess.run(
        [analyze, "security", "--offline=yes", "--threshold=20", str(UNIT)], capture_output=True, text=True, check=False
    )
    assert report.returncode == 0, report.stdout + report.stderr


def test_K12_the_unit_runs_as_nobody_in_particular_with_one_capability() -> None:
    lines = UNIT.read_text().splitlines()
    assert "DynamicUser=yes" in lines
    assert [line for line in lines if "Capabilit" in line and not line.startswith("#")] == [
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
    ]
