"""The tours of the pages on game servers and DNS, followed literally."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from support.app_node import AppNode, app_node
from support.needs import needs
from support.port_block import port_block
from support.tourist import PATIENCE, Shell, steps, tourist
from support.waiting import eventually

CHANCE: Final = (  # what differs each time, and what stands for it; names and ports by the order in which they come
    (re.compile(r"\b(?:\d+[smhd])+\b"), "<time>"),
    (re.compile(r"after \d+\.\d s"), "after <time>"),
    (re.compile(r"Queries lost: .*"), "Queries lost: <few>"),
    (re.compile(r"Queries sent: .*"), "Queries sent: <many>"),
    (re.compile(r" +"), " "),
    (re.compile(r"(?<=<time> 1 )\d+ "), "<sessions> "),  # of a backend; whoever else asks there is one more
)
IN_TURN: Final = re.compile(r"game\.[12]|(?<=127\.0\.0\.1[:-])\d+")
LOOKS: Final = ("cat ", "harbor backends ", "dig ", "harbor events ")  # who is too early looks again


def masked(text: str, names: dict[str, str]) -> str:
    """The text without what is by chance; ``names`` remembers who was the first, the second ..."""
    for chance, word in CHANCE:
        text = chance.sub(word, text)
    return IN_TURN.sub(lambda found: names.setdefault(found[0], f"<{len(names)}>"), text)


def follow(page: str, shell: Shell, ports: dict[int, int]) -> None:
    """Type what the page says, with other ports, and see that it says the same."""

    def here(text: str) -> str:
        return re.sub("|".join(map(str, ports)), lambda port: str(ports[int(port[0])]), text)

    written: dict[str, str] = {}
    seen: dict[str, str] = {}
    for step in steps(page):
        command, awaited = here(step.command), masked(here(step.said), written)

        def as_written() -> bool:
            said, code = shell.run(command)  # noqa: B023 (called at once)
            learnt = dict(seen)
            if masked(said, learnt) != awaited if awaited else code:  # noqa: B023
                print(said)  # for whoever looks into a failure
                return False
            seen.update(learnt)
            return True

        eventually(as_written, PATIENCE if command.startswith(LOOKS) else 0, f"{command}\n{step.said}")


@pytest.mark.slow
def test_C05_players_move_to_the_second_game_server_when_the_first_is_killed(tmp_path: Path) -> None:
    for program in ("bash", "nc", "pkill", "teeworlds-server"):
        needs(program)
    with app_node(tmp_path) as node, tourist(tmp_path / "tour", tmp_path / "harbor.yml") as shell:
        follow("game-servers.md", shell, {31303: first_port(node)})


@pytest.mark.slow
def test_C05_one_of_two_dns_servers_is_killed_and_few_questions_are_lost(tmp_path: Path) -> None:
    for program in ("bash", "dig", "dnsmasq", "dnsperf"):
        needs(program)
    with (
        app_node(tmp_path) as node,
        port_block(3) as servers,
        tourist(tmp_path / "tour", tmp_path / "harbor.yml") as shell,
    ):
        follow("dns.md", shell, {1535: servers.start // 10, 31053: first_port(node)})
        sent, lost = (
            int(number) for number in re.findall(r"Queries (?:sent|lost): +(\d+)", shell.run("cat dnsperf.log")[0])
        )
        assert lost < sent / 10


def first_port(node: AppNode) -> int:
    """The first port that the node leases."""
    return int(node.ask("GET", "/v1/ports")["ranges"][0].partition("-")[0])
