"""One client connection and the backend connection that it is tied to, as HTTP/1.1 passes between them.

Heads are parsed strictly and rewritten, bodies are counted and pass as they are. Each side is in one of these states:

    asking                                                   answering
    HEAD     a request head is due, or has begun             NONE     nothing is asked: whatever comes is wrong
    LENGTH   so many bytes of its body are left              HEAD     a response head is due, or has begun
    CHUNKS   its body is chunked                             LENGTH   so many bytes of its body are left
    DONE     it is out, its response is not complete         CHUNKS   its body is chunked
    RAW      a plain relay                                   TO_END   its body is what comes before the end of file
                                                             RAW      a plain relay

Rule 1: the backend has one request at a time. What a client sends ahead is held until the response is complete, so
responses cannot be mistaken, and what follows a request that wants to become something else (CONNECT, Upgrade) is
looked at only when the backend has said what it is.
Rule 2: a byte of a request is passed on only when all before it were found good; a head and what follows a chunked
body as a whole.
Rule 3: a connection ends when one of both sides wants it to, and whenever they might disagree about what comes next.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal

from harbor.model import Address
from harbor.policy.http.chunked import OF_REQUEST, OF_RESPONSE, Chunked
from harbor.policy.http.fields import CHUNKED, NONE, RequestFields, ResponseFields
from harbor.policy.http.forwarding import Forwarding
from harbor.policy.http.heads import RequestHead, ResponseHead
from harbor.policy.http.pages import refusal_page
from harbor.policy.http.refused import BackendRefused, HttpRefused, Malformed

IDLE: Final = 0
HEAD: Final = 1
LENGTH: Final = 2
CHUNKS: Final = 3
DONE: Final = 4
TO_END: Final = 5
RAW: Final = 6

Data = bytes | memoryview


class End(Enum):
    """What an end of file means, and so what to do about it."""

    FORWARD = "forward"  # a plain relay: end the other side's input, too
    LATER = "later"  # a response is due: go on until ``is_over``, and do not tell the backend before ``is_raw``
    CLOSE = "close"  # nothing is lacking: close both in order
    UNANSWERED = "unanswered"  # a request has no answer: send ``page(502, ...)``, close both
    CUT = "cut"  # a message is not whole: reset the other side, so that it cannot take it for whole


class HttpRelay:
    """One HTTP/1 connection as it passes a relay: heads are parsed strictly and rewritten, bodies pass as they are.

    The caller moves bytes: what the client sent through ``from_client`` to the backend, what the backend sent through
    ``from_backend`` to the client. After each of them it looks at

    - ``may_continue``: call ``from_client(b"")``, for more of what the client sent may go to the backend now, and
      after that its end, if that came before both became a plain relay;
    - ``is_over``: send what is left and close both in order;
    - ``holds_client``: read no more from the client for the moment;
    - ``is_raw``: both directions pass untouched from now on, with or without this object.

    After an error it sends ``page(...)``, which is empty where an answer would be misunderstood, and closes both;
    the client with a reset if ``is_answering``.
    """

    __slots__ = (
        "_answering",
        "_asking",
        "_begun",
        "_chunked_answer",
        "_chunked_request",
        "_client_ended",
        "_expecting",
        "_held",
        "_left_of_answer",
        "_left_of_request",
        "_refused",
        "_request",
        "_response",
        "_upgrading",
        "_will_close",
        "is_over",
        "may_continue",
        "requests",
        "response_started",
    )

    def __init__(
        self,
        *,
        client: Address,
        port: int,
        scheme: Literal["https", "http"],
        trusted: bool,
        hsts: str | None = None,
    ) -> None:
        self._request = RequestHead(Forwarding(client, port, scheme, trusted))
        self._response = ResponseHead(hsts if scheme == "https" else None)
        self._asking = HEAD
        self._answering = IDLE
        self._held: Data = b""  # from the client: the beginning of something, or sent ahead
        self._begun = b""  # from the backend: the beginning of a head, or of a line
        self._left_of_request = 0
        self._left_of_answer = 0
        self._chunked_request: Chunked | None = None
        self._chunked_answer: Chunked | None = None
        # Of the request that is under way:
        self._expecting = False  # the body waits for 100 Continue
        self._upgrading = False
        self._will_close = False
        self._client_ended = False
        self._refused = False
        self.may_continue = False
        self.is_over = False
        self.requests = 0  # heads that went to the backend
        self.response_started = False  # of the request under way: a page would be read as part of it

    def __repr__(self) -> str:
        names = ("idle", "head", "length", "chunks", "done", "to end", "raw")
        over = " | over" if self.is_over else ""
        asking, answering = names[self._asking], names[self._answering]
        return f"<HttpRelay [{self.requests} requests | asking: {asking} | answering: {answering}{over}]>"

    @property
    def is_raw(self) -> bool:
        """Whether both directions are a plain relay, with nothing left to send first."""
        return self._asking == RAW and not self._held

    @property
    def holds_client(self) -> bool:
        """Whether what the client sends is only held now: it has sent ahead."""
        return self._asking == DONE and len(self._held) > 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way: an end, or a timeout, costs nobody anything."""
        return self._asking == HEAD and self._answering == IDLE and not self._held

    @property
    def waits_for_client(self) -> bool:
        """Whether a request has begun and its end is the client's to send (its timeout is a 408)."""
        return self._asking in (LENGTH, CHUNKS) or (self._asking == HEAD and len(self._held) > 0)

    @property
    def waits_for_backend(self) -> bool:
        """Whether a whole request has no response yet (its timeout is a 504)."""
        return self._asking == DONE and self._answering == HEAD

    @property
    def may_answer(self) -> bool:
        """Whether a response of ours would be taken for that to the request under way."""
        if self._answering == HEAD:
            return not self.response_started
        return self._answering == IDLE and self._asking == HEAD and (self._refused or len(self._held) > 0)

    @property
    def is_answering(self) -> bool:
        """Whether a response has begun and is not complete: the client must not take what it has for all of it."""
        return self._answering in (LENGTH, CHUNKS, TO_END)

    @property
    def is_answered(self) -> bool:
        """Whether something was asked, and the client lacks nothing of the response."""
        return self._answering == IDLE and self.requests > 0

    def page(self, status: int, words: str) -> bytes:
        """The answer to the request under way, or nothing if it has one. Both connections are to be closed then."""
        said = refusal_page(status, words, head_only=self._request.method == b"HEAD") if self.may_answer else b""
        self.is_over = True
        self.response_started = True
        self._refused = False
        self._held = b""
        return said

    # What the client sends.

    def from_client(self, data: Data) -> Data:
        """What of it, and of what was held before, goes to the backend now.

        Errors: ``HttpRefused`` when a request is ambiguous or malformed; nothing of what is wrong has been passed on.
        """
        if self._asking == LENGTH and len(data) < self._left_of_request and not self.is_over:
            self._left_of_request -= len(data)
            return data
        if self._held:
            data = self._held if not len(data) else b"".join((self._held, data))
            self._held = b""
        self.may_continue = False
        if self.is_over:
            return b""
        try:
            return self._ask(data)
        except Malformed as wrong:
            self._refused = True
            self.is_over = True
            raise HttpRefused(wrong.status, wrong.words) from None

    def _ask(self, data: Data) -> Data:
        out: list[Data] = []
        position, size = 0, len(data)
        while position < size:
            before, asking = position, self._asking
            if asking == HEAD:
                position = self._take_request(data, position, out)
            elif asking == RAW:
                out.append(data[position:] if position else data)
                position = size
            elif asking == LENGTH:
                position = self._take_body(data, position, out)
            elif asking == CHUNKS:
                position = self._take_chunks(data, position, out)
            if position == before and asking == self._asking:
                self._hold(data, position)
                break
        if len(out) == 1:
            return out[0]
        return b"".join(out) if out else b""

    def _hold(self, data: Data, position: int) -> None:
        """Keep the rest. What is ours already is not copied again: a pipeline is cut off piece by piece."""
        if isinstance(data, bytes):
            data = memoryview(data)
        rest = data[position:]
        self._held = rest if isinstance(rest.obj, bytes) else bytes(rest)
        if self._client_ended and self._asking == HEAD:
            self.is_over = True  # the rest of it will never come

    def _take_request(self, data: Data, position: int, out: list[Data]) -> int:
        head = self._request
        end = head.read(data, position)
        if end > position:
            out.append(head.out)
            head.out = b""
            self._begin_request(head.fields)
        return end

    def _begin_request(self, fields: RequestFields) -> None:
        self.requests += 1
        self._answering = HEAD
        self.response_started = False
        self._expecting = fields.expects
        self._upgrading = fields.upgrades and self._request.is_1_1
        self._will_close = fields.closes or (not self._request.is_1_1 and not fields.keeps)
        if fields.length > 0:
            self._asking, self._left_of_request = LENGTH, fields.length
        elif fields.length == CHUNKED:
            self._asking, self._chunked_request = CHUNKS, Chunked(OF_REQUEST)
        else:
            self._asking = DONE

    def _take_body(self, data: Data, position: int, out: list[Data]) -> int:
        end = min(position + self._left_of_request, len(data))
        out.append(memoryview(data)[position:end])
        self._left_of_request -= end - position
        if not self._left_of_request:
            self._request_is_out()
        return end

    def _take_chunks(self, data: Data, position: int, out: list[Data]) -> int:
        chunked = self._chunked_request
        assert chunked is not None
        end = chunked.feed(data, position)
        if end > position:
            out.append(memoryview(data)[position:end])
        if chunked.is_done:
            self._request_is_out()
        return end

    def _request_is_out(self) -> None:
        self._chunked_request = None
        self._asking = HEAD if self._answering == IDLE else DONE

    def client_ended(self) -> End:
        """The client sends no more."""
        self._client_ended = True
        if self._asking == RAW:
            return End.FORWARD
        if self._asking == DONE:
            return End.LATER
        self.is_over = True
        return End.CLOSE if self.is_idle else End.CUT

    # What the backend sends.

    def from_backend(self, data: Data) -> Data:
        """What of it, and of what was held before, goes to the client now.

        Errors: ``BackendRefused`` when the response is malformed; nothing of what is wrong has been passed on.
        """
        answering = self._answering
        if answering == LENGTH and len(data) < self._left_of_answer:
            self._left_of_answer -= len(data)
            return data
        if answering >= TO_END:
            return data
        if self._begun:
            data = b"".join((self._begun, data))
            self._begun = b""
        if self.is_over:
            return b""
        try:
            return self._answer(data)
        except Malformed as wrong:
            self.is_over = True
            raise BackendRefused(wrong.words) from None

    def _answer(self, data: Data) -> Data:
        out: list[Data] = []
        position, size = 0, len(data)
        passed = 0  # data[passed:position] goes on as it is
        while position < size:
            before, answering = position, self._answering
            if answering == HEAD:
                position, instead = self._take_response(data, position)
                if instead is not None:
                    out += (memoryview(data)[passed:before], instead)
                    passed = position
            elif answering == LENGTH:
                position += min(self._left_of_answer, size - position)
                self._left_of_answer -= position - before
                if not self._left_of_answer:
                    self._answer_is_complete()
            elif answering == CHUNKS:
                position = self._pass_chunks(data, position)
            elif answering == IDLE:
                self._says_too_much(position)
                break
            else:
                position = size
            if position == before and answering == self._answering:
                self._begun = bytes(data[position:])
                break
        rest = data if not passed and position == size else memoryview(data)[passed:position]
        return b"".join((*out, rest)) if out else rest

    def _take_response(self, data: Data, position: int) -> tuple[int, bytes | None]:
        """Where the next head in ``data`` ends, and what the client gets instead of it; None if it gets that."""
        head = self._response
        end = head.read(data, position)
        if end == position:
            return end, None
        if head.status < 200 and head.status != 101:
            return end, self._interim(head.status)
        self._begin_response(head.status, head.is_1_1, head.fields)
        return end, head.instead

    def _interim(self, status: int) -> bytes | None:
        """1xx: the response proper is still to come. HTTP/1.0 knows nothing of that."""
        if status == 100:
            self._expecting = False
        return None if self._request.is_1_1 else b""

    def _begin_response(self, status: int, is_1_1: bool, fields: ResponseFields) -> None:
        self.response_started = True
        if status == 101 or (self._request.method == b"CONNECT" and status < 300):
            self._begin_raw(status)
            return
        keeps = fields.keeps or (is_1_1 and self._request.is_1_1)
        # A backend that answers before it asked for the body may take it for the next request (RFC 9110, 10.1.1).
        unsure = self._expecting and self._asking != DONE
        self._will_close = self._will_close or fields.closes or not keeps or unsure
        if fields.length == CHUNKED and not is_1_1:
            raise Malformed("Its response is HTTP/1.0 and chunked")
        if self._request.method == b"HEAD" or status in (204, 304) or fields.length == 0:
            self._answer_is_complete()
        elif fields.length == CHUNKED:
            self._answering, self._chunked_answer = CHUNKS, Chunked(OF_RESPONSE)
        elif fields.length == NONE:
            self._answering, self._will_close = TO_END, True
        else:
            self._answering, self._left_of_answer = LENGTH, fields.length

    def _begin_raw(self, status: int) -> None:
        if self._asking != DONE or (status == 101 and not self._upgrading):
            raise Malformed("It switches to another protocol, and nobody asked for that")
        self._asking = self._answering = RAW
        self.may_continue = len(self._held) > 0 or self._client_ended

    def _pass_chunks(self, data: Data, position: int) -> int:
        chunked = self._chunked_answer
        assert chunked is not None
        position = chunked.feed(data, position)
        if chunked.is_done:
            self._chunked_answer = None
            self._answer_is_complete()
        return position

    def _answer_is_complete(self) -> None:
        self._answering = IDLE
        if self._will_close or (self._client_ended and not self._held):
            self.is_over = True
        elif self._asking == DONE:
            self._asking = HEAD
            self.may_continue = len(self._held) > 0

    def _says_too_much(self, position: int) -> None:
        """Bytes that belong to no request. What came before them is whole; nothing after them can be believed."""
        if not position:
            raise Malformed("It sent something that nobody asked for")
        self.is_over = True
        self.may_continue = False

    def backend_ended(self) -> End:
        """The backend sends no more."""
        answering = self._answering
        if answering == RAW:
            return End.FORWARD
        waiting = self.may_answer and self.requests <= 1
        self.is_over = True
        if answering == HEAD and (self._begun or waiting):
            return End.UNANSWERED
        if answering in (LENGTH, CHUNKS):
            return End.CUT
        # A kept connection may end at any time: the client finds it closed, as it would without us, and asks again.
        return End.UNANSWERED if waiting else End.CLOSE
