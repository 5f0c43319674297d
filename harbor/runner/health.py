"""Health checks of instances: what one is, and one look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from harbor.runner.node import Leased, address
from harbor.runner.process import Output, Process
from harbor.runner.words import expanded, split

TIMEOUT: Final = 2.0  # seconds for one look; who needs longer to say that it is well is not
FORMS: Final = "use tcp, a path like /healthz, or exec:COMMAND"

Find = Callable[[str], str | None]  # the file of a program, by its name


@dataclass(frozen=True, slots=True)
class Check:
    """What is looked at: a TCP connection, an HTTP path, or what a command says by its exit code."""

    kind: str
    path: str = ""
    words: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Check:
        """From ``--health``. Errors: ``ValueError`` that says what would work."""
        if text == "tcp":
            return cls("tcp")
        if text.startswith("/"):
            if not text.isascii() or not text.isprintable() or " " in text:
                raise ValueError("a path has no blanks and only ASCII; write others as %XX")
            return cls("http", path=text)
        if text.startswith("exec:"):
            words = split(text[5:])
            if not words:
                raise ValueError(f"exec: needs a command; {FORMS}")
            return cls("exec", words=words)
        raise ValueError(FORMS)

    def subject(self, services: Sequence[Leased]) -> Leased | None:
        """The service at whose port it looks: the first, or the first that has TCP; None if there is none."""
        return next((one for one in services if self.kind == "exec" or "tcp" in one.protocols), None)


async def passes(
    check: Check,
    host: str,
    port: int,
    program: Find,
    environment: Mapping[str, str],
    own: Mapping[str, str],
    output: Output,
) -> bool:
    """One look. It takes at most ``TIMEOUT`` and leaves nothing behind."""
    try:
        async with asyncio.timeout(TIMEOUT):
            match check.kind:
                case "tcp":
                    return await _connects(host, port)
                case "http":
                    return await _answers(host, port, check.path)
                case _:
                    return await _succeeds(program, expanded(check.words, own), environment, output)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        return False


async def _connects(host: str, port: int) -> bool:
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    return True


async def _answers(host: str, port: int, path: str) -> bool:
    """Whether the answer is neither a refusal nor a failure: 200 to 399."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {address(host, port)}\r\n"
            "User-Agent: harbor-run\r\nConnection: close\r\n\r\n".encode()
        )
        version, status, *_ = (await reader.readuntil(b"\n")).split(maxsplit=2)
        return version.startswith(b"HTTP/1.") and 200 <= int(status) < 400
    finally:
        writer.close()


async def _succeeds(program: Find, words: Sequence[str], environment: Mapping[str, str], output: Output) -> bool:
    file = program(words[0])
    if file is None:
        return False
    process = Process(file, words, environment, output)
    try:
        await process.ended.wait()
        return process.code == 0
    finally:
        process.kill()
        await process.ended.wait()
        process.sweep()
