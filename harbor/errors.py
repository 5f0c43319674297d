"""The error tree: every refusal carries a stable ``code`` and the HTTP ``status`` that fits it.

A subclass exists only where a caller acts differently; everything else is a ``Refused`` with its own
code. Messages say what was wrong, which thing it was, and what would work.
"""

from __future__ import annotations


class HarborError(Exception):
    """Root of all errors that Harbor raises on purpose."""

    code = "internal"
    status = 500

    def __init__(self, message: str, *, code: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status


class Invalid(HarborError):
    """The request itself is wrong; repeating it unchanged cannot work."""

    code = "invalid"
    status = 400


class Refused(HarborError):
    """A well-formed request that the present state or a rule forbids."""

    code = "conflict"
    status = 409


class NotFound(HarborError):
    """The thing named does not exist."""

    code = "not_found"
    status = 404


class Unauthorized(HarborError):
    """No credentials, or credentials that are not known."""

    code = "unauthorized"
    status = 401


class PortTaken(HarborError):
    """A port could not be bound; ``squatter`` names who holds it when /proc shows it."""

    code = "port_taken"
    status = 409

    def __init__(self, message: str, *, squatter: str | None = None) -> None:
        super().__init__(message)
        self.squatter = squatter


class StoreFailed(HarborError):
    """The state could not be written; nothing of the change has taken effect."""

    code = "store_failed"
    status = 503


class StateUnusable(HarborError):
    """The state directory is locked, corrupt, newer than this version or not writable: refuse to start."""

    code = "state_unusable"
    status = 500


class ConfigInvalid(HarborError):
    """The configuration cannot be used; ``problems`` has one ready-to-print line per fault."""

    code = "config_invalid"
    status = 400

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
