"""What is to run: the command line and ``stackato.yml`` put together. The command line wins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harbor.client import Place
from harbor.errors import HarborError
from harbor.policy.naming import check_name
from harbor.runner.health import Check
from harbor.runner.stackato import FILE, Declared, Wanted, read

USAGE: Final = "say what to run, like: harbor run --service web -- node app.js"


@dataclass(frozen=True, slots=True)
class Asked:
    """The command line. What is None or empty is left to ``stackato.yml``, then to a default."""

    where: Place
    folder: Path
    command: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    app: str | None = None
    instances: int | None = None
    health: Check | None = None
    stop_timeout: float = 10.0
    restart_limit: int = 0
    ttl: float = 15.0
    advertise: str | None = None
    log_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to run, as far as a changed ``stackato.yml`` may change it."""

    app: str
    command: tuple[str, ...]
    instances: int
    env: Mapping[str, str]
    services: tuple[Wanted, ...]
    others: tuple[str, ...] = ()


def wish(asked: Asked) -> Wish:
    """What is to run by now: ``stackato.yml`` is read anew.

    Errors: ``ConfigInvalid`` for faults of the file; ``HarborError`` if it is not said what to run.
    """
    declared = read(asked.folder / FILE, asked.app, _or_none(asked.folder)) or Declared()
    command = asked.command or declared.command
    if not command:
        where = f"; or write processes: {{web: ...}} into {FILE}" if (asked.folder / FILE).exists() else ""
        raise HarborError(f"there is no command: {USAGE}{where}")
    app = asked.app or declared.name or folder_name(asked.folder)
    wanted = {name: Wanted(name) for name in asked.services} | {one.name: one for one in declared.services}
    return Wish(
        check_name(app, "app name"),
        command,
        asked.instances or declared.instances or 1,
        declared.env,
        tuple(wanted.values()),
        declared.others,
    )


def folder_name(folder: Path) -> str:
    """The app's name if nobody gives one. Errors: ``HarborError`` if the folder's name has nothing of a name."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).strip("._-")[:63]
    if not name:
        raise HarborError(f"the folder {folder} cannot give the app its name; give one with --app NAME")
    return name


def _or_none(folder: Path) -> str | None:
    try:
        return folder_name(folder)
    except HarborError:
        return None
