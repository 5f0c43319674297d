"""``harbor run`` before anything runs: how it is used, and what is said when it cannot begin."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.conftest import Shell


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["--stop-timeout", "1", "--", "true"], "2<=x<=120"),
        (["--stop-timeout", "121", "--", "true"], "2<=x<=120"),
        (["--instances", "0", "--", "true"], "1<=x<=100"),
        (["--health", "http", "--", "true"], "use tcp, a path like /healthz, or exec:COMMAND"),
        (["--nonsense", "--", "true"], "No such option"),
    ],
)
async def test_wrong_use_is_told(harbor: Shell, words: list[str], advice: str) -> None:
    ran = await harbor("run", "--service", "web", *words)
    assert ran.code == 2
    assert advice in ran.err


async def test_without_a_command_it_says_how_to_give_one(harbor: Shell) -> None:
    ran = await harbor("run", "--service", "web")
    assert (ran.code, ran.out) == (1, "")
    assert "harbor run --service web -- node app.js" in ran.err


async def test_a_command_that_is_not_there_is_told_as_by_a_shell_and_nothing_is_made(harbor: Shell) -> None:
    ran = await harbor("run", "--service", "web", "--", "nonesuch-program")
    assert (ran.code, ran.out) == (127, "")
    assert ran.err == "harbor: there is no program 'nonesuch-program' in PATH\n"
    ran = await harbor("run", "--service", "web", "--", "/dev/null")
    assert (ran.code, ran.out) == (126, "")
    assert "is not executable" in ran.err
    assert (await harbor("services", "--json")).json == []


async def test_options_of_the_command_need_no_dashes_before_it(harbor: Shell) -> None:
    ran = await harbor("run", "--service", "web", "nonesuch-program", "--port", "5", "-x")
    assert ran.code == 127


async def test_without_services_it_says_how_to_name_some(harbor: Shell) -> None:
    ran = await harbor("run", "--app", "shop", "--", "true")
    assert ran.code == 1
    assert "app shop is bound to no service" in ran.err
    assert "harbor bind-service NAME shop" in ran.err


async def test_without_a_node_it_says_where_it_looked(alone: Shell, tmp_path: Path) -> None:
    ran = await alone("run", "--service", "web", "--", "true")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"harbor: no node at {tmp_path}/harbor.sock")


async def test_a_name_that_is_none_is_refused(harbor: Shell) -> None:
    ran = await harbor("run", "--app", "../x", "--service", "web", "--", "true")
    assert ran.code == 1
    assert "app name '../x' is not valid" in ran.err
    ran = await harbor("run", "--service", "../x", "--", "true")
    assert ran.code == 1
    assert "service name '../x' is not valid" in ran.err
    ran = await harbor("run", "--service", "udp-game", "--health", "/", "--", "true")
    assert "needs a TCP service" in ran.err


async def test_a_log_directory_that_cannot_be_made_is_told(harbor: Shell) -> None:
    ran = await harbor("run", "--service", "web", "--log-dir", "/dev/null/x", "--", "true")
    assert ran.code == 1
    assert "--log-dir /dev/null/x cannot be made" in ran.err


async def test_one_that_never_lives_is_given_up_after_the_limit_with_its_exit_code(harbor: Shell) -> None:
    ran = await harbor(
        "run", "--service", "web", "--restart-limit", "2", "--", "sh", "-c", "echo out; echo err >&2; exit 3"
    )
    assert ran.code == 3
    assert ran.out.count(".1 ended with exit code 3") == 2
    assert "starts again in 0.5 s" in ran.out
    assert ".1 is given up after 2 deaths in a row" in ran.out
    assert ran.out.count("| out\n") == ran.out.count("| err\n") == 2


async def test_a_script_without_an_interpreter_is_explained(harbor: Shell, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo hello\n")
    script.chmod(0o755)
    ran = await harbor("run", "--service", "web", "--", str(script))
    assert ran.code == 126
    assert "Exec format error; a script needs a first line like #!/bin/sh" in ran.out
