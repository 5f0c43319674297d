"""The long list of what a service can be given is read under headings, and nothing is missing there."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner

from harbor.cli.services import create_service, update_service
from harbor.model.policy import FIELDS


@pytest.mark.parametrize("command", [create_service, update_service])
def test_every_option_stands_once_under_its_heading(command: click.Command) -> None:
    text = CliRunner().invoke(command, ["--help"]).output
    own, policy, tls = re.split(r"^(?:Policy|TLS):$", text.partition("\nOptions:\n")[2], flags=re.MULTILINE)
    listed = [re.findall(r"^  (--[a-z0-9-]+)", section, re.MULTILINE) for section in (own, policy, tls)]
    flags = [parameter.opts[0] for parameter in command.params if parameter.param_type_name == "option"]
    assert sorted(flag for section in listed for flag in section) == sorted([*flags, "--help"])
    assert set(listed[1]) <= {f"--{name.replace('_', '-')}" for name in FIELDS}
    assert {"--max-sessions", "--balance"} <= set(listed[1])
    assert {"--tls-verify", "--backend-tls", "--server-name"} <= set(listed[2])
