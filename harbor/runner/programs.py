"""Finding what a command starts, before anything else is done for it."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from harbor.errors import HarborError
from harbor.runner.guard import NOT_EXECUTABLE, NOT_FOUND


class CannotStart(HarborError):
    """There is nothing to start. ``exit_code`` is what a shell would return."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def find(name: str, environment: Mapping[str, str]) -> str:
    """The file that ``name`` means: a path, or a program in PATH. Errors: ``CannotStart`` with what would work."""
    path = environment.get("PATH", os.defpath)
    found = shutil.which(name, path=path)
    if found is not None:
        return os.path.abspath(found)
    if not name:
        raise CannotStart("the command begins with an empty word; write it like: harbor run -- node app.js", NOT_FOUND)
    if "/" in name:
        raise _unusable(name)
    if " " in name:
        raise CannotStart(f"there is no program {name!r}; no shell is involved: write sh -c {name!r}", NOT_FOUND)
    here = f", but there is one in this folder: write ./{name}" if Path(name).is_file() else _alike(name, path)
    raise CannotStart(f"there is no program {name!r} in PATH{here}", NOT_FOUND)


def _unusable(name: str) -> CannotStart:
    if not os.path.exists(name):
        return CannotStart(f"there is no file {name!r}; the command is looked for from {os.getcwd()}", NOT_FOUND)
    if os.path.isdir(name):
        return CannotStart(f"{name!r} is a folder, no program", NOT_EXECUTABLE)
    return CannotStart(f"{name!r} is not executable; chmod +x {name}, or name its interpreter first", NOT_EXECUTABLE)


def _alike(name: str, path: str) -> str:
    names: set[str] = set()
    for folder in path.split(os.pathsep):
        try:
            names.update(os.listdir(folder))
        except OSError:
            continue
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""
