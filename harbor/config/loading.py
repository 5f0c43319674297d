"""From a file, or from nothing, to a ``Config``; every fault is reported at once, with line and column."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from harbor.config import document, faults
from harbor.config.settings import Config
from harbor.errors import ConfigInvalid

# Where a configuration is looked for when nobody names one.
PLACES: Final = (Path("config/harbor.yml"), Path("/etc/harbor/harbor.yml"))

_MOST_LINES: Final = 50  # what follows that many faults is noise


def find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file that configures the node: ``path``, ``$HARBOR_CONFIG``, else the first of ``PLACES`` that exists.

    None when there is no file at all: the defaults apply. A file that was named is returned even if it is missing.
    """
    if path is not None:
        return path
    if named := environ.get("HARBOR_CONFIG"):
        return Path(named)
    return next((place for place in PLACES if place.exists()), None)


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration of this node, from the file that ``find`` names.

    Errors: ``ConfigInvalid`` if the file is missing, unreadable or wrong.
    """
    found = find(path, environ)
    if found is None:
        return Config()
    return parse(_text_of(found), str(found))


def parse(text: str, source_name: str) -> Config:
    """The configuration in ``text``; ``ConfigInvalid`` with lines like ``harbor.yml:12:5: ports: no such key``."""
    read = document.read(text)
    problems = list(read.problems)
    config = None
    if read.values is not None:
        try:
            config = Config.model_validate(read.values)
        except ValidationError as error:
            problems += faults.problems_of(error, read)
    if config is None or problems:
        raise ConfigInvalid(_lines(sorted(problems), source_name))
    return config


def _lines(problems: list[document.Problem], source_name: str) -> list[str]:
    lines = [f"{source_name}:{at.line}:{at.column}: {message}" for at, message in problems[:_MOST_LINES]]
    if len(problems) > _MOST_LINES:
        lines.append(f"{source_name}: and {len(problems) - _MOST_LINES} more")
    return lines


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(document.MAX_BYTES + 1).decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigInvalid([f"{path}: there is no such file"]) from None
    except OSError as error:
        raise ConfigInvalid([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid([f"{path}: is not UTF-8 text (byte {error.start + 1})"]) from error
