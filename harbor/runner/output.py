"""Where output goes: to the screen, line by line with a name in front, and as it is to a file for each instance."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from harbor.errors import HarborError
from harbor.runner.lines import RED, RESET, Lines, Prefix, shown
from harbor.runner.outlet import Outlet

LARGEST_FILE: Final = 10 << 20  # bytes of a log file before it is put aside
KEPT: Final = 3  # log files that were put aside, for each instance
HARBOR: Final = "harbor"


class Screen:
    """Writes to a descriptor, in whole lines."""

    def __init__(self, descriptor: int, styled: bool) -> None:
        self._descriptor = descriptor
        self._styled = styled
        self.prefix = Prefix(styled)
        self._lines: dict[str, Lines] = {}

    def write(self, name: str, number: int, data: bytes) -> None:
        lines = self._lines.setdefault(name, Lines())
        whole = lines.feed(data) if data else lines.flush()
        clock = time.strftime("%H:%M:%S")
        text = "".join(self.prefix.line(clock, name, number, shown(line, self._styled)) for line in whole)
        _write_all(self._descriptor, text.encode("utf-8", "replace"))


class Files:
    """Writes a file for each instance, ``NAME.log``, and puts it aside when it has become large.

    ``told`` hears why the disk takes no more, and None when it does again; what came meanwhile is not written.
    """

    def __init__(self, directory: Path, told: Callable[[OSError | None], None] = lambda error: None) -> None:
        """Errors: ``HarborError`` if the directory is not there and cannot be made."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HarborError(f"--log-dir {directory} cannot be made: {error.strerror}") from error
        if not os.access(directory, os.W_OK | os.X_OK):
            raise HarborError(f"--log-dir {directory} cannot be written to")
        self._directory = directory
        self._told = told
        self._failing = False
        self._open: dict[str, int] = {}

    def write(self, name: str, number: int, data: bytes) -> None:
        try:
            self._append(name, data)
        except OSError as error:
            if not self._failing:
                self._told(error)
            self._failing = True
        else:
            if self._failing:
                self._told(None)
            self._failing = False

    def _append(self, name: str, data: bytes) -> None:
        descriptor = self._open.get(name)
        if descriptor is not None and os.fstat(descriptor).st_size + len(data) > LARGEST_FILE:
            os.close(self._open.pop(name))
            self._put_aside(name)
            descriptor = None
        if descriptor is None:
            descriptor = self._open[name] = self._opened(name)
        _write_all(descriptor, data)

    def _opened(self, name: str) -> int:
        return os.open(self._directory / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def _put_aside(self, name: str) -> None:
        kept = [self._directory / f"{name}.log", *(self._directory / f"{name}.log.{n + 1}" for n in range(KEPT))]
        for older, newer in zip(reversed(kept[1:]), reversed(kept[:-1]), strict=True):
            if newer.exists():
                newer.replace(older)


class Output:
    """Everything that is shown or kept.

    Closing: ``close()`` writes what is still to be written.
    """

    def __init__(self, descriptor: int, styled: bool, log_dir: Path | None) -> None:
        """Errors: ``HarborError`` if there can be no files in ``log_dir``."""
        self._styled = styled
        files = None if log_dir is None else Files(log_dir, self._say_of_files)
        screen = Screen(descriptor, styled)
        self._screen = Outlet(screen.write)
        self.expect = screen.prefix.widen  # a name that will come
        self._files = None if files is None else Outlet(files.write)

    def put(self, name: str, number: int, data: bytes) -> bool:
        """Take what an instance wrote; False asks for a pause."""
        room = self._screen.put(name, number, data)
        return (self._files is None or not data or self._files.put(name, number, data)) and room

    def say(self, text: str, *, wrong: bool = False) -> None:
        """Tell people something about what Harbor does here."""
        styled = f"\x1b[{RED}m{text}{RESET}" if wrong and self._styled else text
        self._screen.put(HARBOR, 0, f"{styled}\n".encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        self._screen.close()
        if self._files is not None:
            self._files.close()

    def _say_of_files(self, error: OSError | None) -> None:
        if error is None:
            self.say("the log files are written again")
        else:
            self.say(f"the log files are not written: {error.strerror}", wrong=True)


def is_styled(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether colours belong there: on a terminal that knows them, unless somebody does not want any."""
    return os.isatty(descriptor) and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # somebody who shares the terminal made it so
            select.select([], [descriptor], [])
