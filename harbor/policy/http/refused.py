"""What is wrong with a message, and whose fault it is."""

from __future__ import annotations

from harbor.errors import HarborError


class Malformed(HarborError):
    """A message that two programs might understand differently. ``words`` is a sentence without its full stop."""

    code = "http_invalid"
    status = 400

    def __init__(self, words: str, status: int = 400) -> None:
        super().__init__(words, status=status)
        self.words = words


class HttpRefused(HarborError):
    """The client's request goes no further: answer with ``status`` and close. ``words`` is a sentence for people."""

    code = "http_invalid"
    status = 400

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words, status=status)
        self.words = words


class BackendRefused(HarborError):
    """The backend's answer goes no further: 502 if nothing of it was passed on, else both connections are reset."""

    code = "response_invalid"
    status = 502

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words
