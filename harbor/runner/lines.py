"""What instances write, made fit to stand on a screen: whole lines, bounded, harmless, with the name in front."""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 8192  # bytes of a line; longer ones are broken, so that who never ends a line needs no memory
COLOURS: Final = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)  # of names, in turn; red is for failures
RED: Final = 31
# Colours and bold are harmless, and programs that use them are easier to read so. All else is shown as an escape.
STYLE: Final = re.compile(r"\x1b\[[0-9;:]{0,32}m")
RESET: Final = "\x1b[0m"


class Lines:
    """Puts chunks together to lines."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) >= LONGEST:
            lines.append(self._rest)
            self._rest = b""
        return [part for line in lines for part in _broken(line)]

    def flush(self) -> list[bytes]:
        """The line that was begun and will not be ended."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def _broken(line: bytes) -> list[bytes]:
    if len(line) <= LONGEST:
        return [line]
    return [line[start : start + LONGEST] for start in range(0, len(line), LONGEST)]


def shown(line: bytes, styled: bool) -> str:
    """A line as a screen may get it. What was overwritten by a carriage return is not there, as on a terminal."""
    text = line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    if not styled:
        return _harmless(STYLE.sub("", text))
    parts = STYLE.split(text)
    styles = [*STYLE.findall(text), RESET]
    return "".join(_harmless(part) + style for part, style in zip(parts, styles, strict=True))


def _harmless(text: str) -> str:
    return "".join(
        character if character.isprintable() or character == "\t" else _escape(character) for character in text
    )


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class Prefix:
    """What stands in front of each line: the time and who wrote it, in a column."""

    __slots__ = ("_styled", "_width")

    def __init__(self, styled: bool) -> None:
        self._styled = styled
        self._width = len("harbor")

    def widen(self, name: str) -> None:
        """Make room for a name that will come: the column only ever grows."""
        self._width = max(self._width, len(name))

    def line(self, clock: str, name: str, number: int, text: str) -> str:
        """A whole line. ``number`` is the instance's, which chooses the colour; 0 is for Harbor itself."""
        self.widen(name)
        front = f"{clock} {name.ljust(self._width)} |"
        if self._styled:
            style = "1" if number == 0 else str(COLOURS[(number - 1) % len(COLOURS)])
            front = f"\x1b[{style}m{front}{RESET}"
        return f"{front} {text}\n"
