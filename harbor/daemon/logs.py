"""Logs: structlog over the standard library, written by a thread, so that a stuck terminal or disk stops no relay."""

from __future__ import annotations

import logging
import logging.handlers
import queue
import sys
from typing import Any, Final

import structlog

from harbor.config import Log

WAITING: Final = 10_000  # entries that may wait for a slow reader; more are dropped and counted


class DroppingQueueHandler(logging.handlers.QueueHandler):
    """Hands entries to the writer thread, and drops them rather than wait."""

    dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        # The writer lives in this process: the record need not be made fit for another, and keeps its event.
        return record


def start_logging(config: Log) -> logging.handlers.QueueListener:
    """Set up logging for the process; ``stop()`` of the result writes what is left."""
    # A log that cannot be written is no reason to fail: standard error may be closed, its disk full.
    logging.raiseExceptions = False
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        escape_control_characters,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(config.level),
        cache_logger_on_first_use=False,
    )
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    console = config.format == "console" or (config.format == "auto" and on_terminal)
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=on_terminal) if console else structlog.processors.JSONRenderer()
    )
    out = logging.StreamHandler(sys.stderr)
    out.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([] if console else [structlog.processors.format_exc_info]),
                renderer,
            ],
        )
    )
    waiting: queue.Queue[Any] = queue.Queue(WAITING)
    root = logging.getLogger()
    root.handlers = [DroppingQueueHandler(waiting)]
    root.setLevel(config.level.upper())
    listener = logging.handlers.QueueListener(waiting, out)
    listener.start()
    return listener


def escape_control_characters(_logger: Any, _method: str, entry: Any) -> Any:
    """Text that clients made cannot forge a line or drive a terminal."""
    for key, value in entry.items():
        if isinstance(value, str) and not value.isprintable():
            entry[key] = value.encode("unicode_escape").decode("ascii")
    return entry
