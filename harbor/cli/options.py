"""Options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from harbor.model import Policy, Removal
from harbor.model.policy import BOUNDS, FIELDS

Command = TypeVar("Command", bound=Callable[..., Any])

CONFIG_HELP: Final = "Configuration whose node is meant (default: $HARBOR_CONFIG, then the usual places)."

config_option = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help=CONFIG_HELP
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def policy_options(command: Command) -> Command:
    """An option for every field of the policy."""
    for name in reversed(FIELDS):
        command = _policy_option(name)(command)
    return command


def given(policy: dict[str, Any]) -> dict[str, Any]:
    """The policy fields that were set on the command line."""
    return {name: value for name, value in policy.items() if value is not None}


def _policy_option(name: str) -> Callable[[Command], Command]:
    flag = "--" + name.replace("_", "-")
    if name == "removal":
        choices = click.Choice([removal.value for removal in Removal])
        return click.option(flag, type=choices, help="What becomes of a removed backend's sessions.")
    low, high = BOUNDS[name]
    if isinstance(getattr(Policy(), name), int):
        return click.option(flag, type=int, metavar="N", help=f"{low:.0f} to {high:.0f}; 0: no limit.")
    return click.option(flag, type=float, metavar="SECONDS", help=f"{low:g} to {high:.0f}.")
