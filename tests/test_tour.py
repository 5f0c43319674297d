"""The tour of the HTTPS page, followed literally: its commands work, and they say what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from support.app_node import app_node
from support.needs import needs
from support.port_block import open_ports, port_block
from support.tourist import PATIENCE, steps, tourist
from support.waiting import eventually

PROGRAMS: Final = ("bash", "certutil", "chromium", "curl", "gunicorn", "openssl")
BACKENDS: Final = (18080, 18081)  # where the page has its apps
SERVICES: Final = (31443, 31444)  # and its services
MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d UTC)?")


def masked(text: str) -> str:
    return MOMENT.sub("<moment>", text)


@pytest.mark.slow
def test_D11_D12_the_tour_of_HTTPS_is_as_the_page_says(tmp_path: Path) -> None:
    for program in PROGRAMS:
        needs(program)
    with (
        app_node(tmp_path) as node,
        port_block(len(BACKENDS)) as backends,
        tourist(tmp_path / "tour", tmp_path / "harbor.yml") as shell,
    ):
        first = int(node.ask("GET", "/v1/ports")["ranges"][0].partition("-")[0])
        ports = dict(zip((*BACKENDS, *SERVICES), (*backends, first, first + 1), strict=True))

        def here(text: str) -> str:
            return re.sub("|".join(map(str, ports)), lambda port: str(ports[int(port[0])]), text)

        for step in steps("https.md"):
            said, code = shell.run(here(step.command))
            if step.said:
                assert masked(said) == masked(here(step.said)), step.command
            else:
                assert code == 0, (step.command, said)
            for port in (
                ports[port] for port in BACKENDS if re.search(rf"^(gunicorn|python3).*\b{port}\b", step.command)
            ):
                eventually(lambda port=port: open_ports([port]), PATIENCE, step.command)
        eventually(lambda: not open_ports(backends), PATIENCE, "the apps have ended")
