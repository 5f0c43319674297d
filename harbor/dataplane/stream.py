"""One direction of a TCP session: what the source sends is handed to the sink at once.

The copy is symmetric, and half-close falls out of that: an end of file is passed on when everything before it
has been, and the session is over when both directions have ended. While the sink keeps up no byte stays in
Python: one shared buffer receives and sends. What a sink does not take is *held*, and the source is not read
again before it is gone; the kernel's windows then stop the sender.

``Stream.on_news`` serves the common case, "readable, and the sink takes it all", in two system calls. Everything else
goes through ``Stream.on_more``.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from harbor.dataplane.reactor import (
    FAILED,
    HUNG_UP,
    PEER_ENDED,
    PIECE,
    READ,
    SLICES,
    STREAM_EDGES,
    URGENT,
    WRITE,
    Watcher,
)

if TYPE_CHECKING:
    from harbor.dataplane.session import TcpSession
    from harbor.dataplane.tls import TlsEnd

BURST: Final = 8  # reads in one go before the others get their turn
# While all streams together hold less than this, a stream with much to read may read (and so hold) a WHOLE
# instead of a PIECE: a thousand stalled readers then cost a PIECE each, and this once.
HELD_BUDGET: Final = 16 << 20
NOTHING: Final = memoryview(b"")  # is held where only room is waited for

# On descriptors, not on socket objects: a client's costs a system call, 80 bytes and four bound methods. Python
# ignores SIGPIPE, so write() on a dead connection raises as send() does.
_readv: Final = os.readv
_write: Final = os.write


class Stream(Watcher):
    """What goes from one socket of a session to the other. ``moved`` counts bytes that the sink has taken.

    It watches its source. ``sink_tells_room``: the sink is watched for room to write, which a client's socket is not
    until somebody waits for it. ``source_tls``, ``sink_tls``: what ends TLS at that side.
    """

    __slots__ = (
        "ended",
        "ended_second",
        "ending",
        "fault",
        "held",
        "moved",
        "other",
        "queued",
        "session",
        "sink",
        "sink_tells_room",
        "sink_tls",
        "source",
        "source_tls",
    )

    def __init__(self, session: TcpSession, source: int, sink: int, sink_tells_room: bool) -> None:
        self.session = session
        self.source = source
        self.sink = sink
        self.sink_tells_room = sink_tells_room
        self.source_tls: TlsEnd | None = None
        self.sink_tls: TlsEnd | None = None
        self.other: Stream | None = None
        self.held: memoryview | None = None
        self.moved = 0
        self.ending = False  # a short read proves nothing: an end is due, or urgent data stops reads at its mark
        self.ended = False  # end of file was read and passed on
        self.ended_second = False  # the other direction had ended before
        self.fault: OSError | None = None  # what a send towards our source failed with
        self.queued = False

    def on_news(self, events: int) -> None:
        """The source has news."""
        session = self.session
        if events & ~WRITE != READ or not session.clear:
            self.on_more(events)
            return
        reactor = session.reactor
        try:
            count = _readv(self.source, reactor.into_piece)
        except BlockingIOError:
            return
        except OSError:
            self.broke()
            return
        if not count:
            self.finish()
            return
        data = reactor.slices[count] if count < SLICES else reactor.whole[:count]
        try:
            sent = _write(self.sink, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.refused(error)
            return
        self.moved += sent
        if sent < count:
            self.hold(data[sent:])
        elif count == PIECE:
            self.pump()

    def on_more(self, events: int) -> None:
        """Anything but the common case, told by the source socket."""
        other = self.other
        if other is None:
            return
        if events & WRITE and other.held is not None:
            other.flush()
        if events & (PEER_ENDED | HUNG_UP | FAILED | URGENT):
            self.ending = True
            if events & FAILED and self.is_waiting():
                if self.fault is None:
                    self.fault = self.session.error_of(self)
                if self.ended or not self.is_whole():
                    self.broke()
                    return
        if events & ~WRITE or self.source_tls is not None:  # TLS may have had to write before it could read on
            self.pump()

    def pump(self) -> None:
        """Pass on what there is, until the source has no more, the sink takes no more, or it is others' turn."""
        session = self.session
        reactor, pacing = session.reactor, session.pacing
        for _ in range(BURST):
            if self.ended or self.held is not None or self.other is None:
                return
            room = reactor.into_whole if reactor.held < HELD_BUDGET else reactor.into_piece
            if pacing is not None:
                allowed = pacing.allowance(self)
                if not allowed:
                    return
                room = [room[0][:allowed]]
            try:
                count = self.receive(room)
            except BlockingIOError:
                if self.fault is not None:
                    self.broke()
                return
            except OSError:
                self.broke()
                return
            if pacing is not None:
                pacing.charge(self, count)
            if not count:
                self.finish()
                return
            if not self.deliver(reactor.slices[count] if count < SLICES else reactor.whole[:count]):
                return
            if not self.ending and self.is_drained(count < len(room[0])):
                return
        self.pump_later()

    def pump_later(self) -> None:
        """Go on in the next turn."""
        if not self.queued:
            self.queued = True
            self.session.reactor.again(self.pump_again)

    def receive(self, room: list[memoryview]) -> int:
        """Read from the source; 0 at its end. Errors: BlockingIOError, OSError."""
        return _readv(self.source, room) if self.source_tls is None else self.source_tls.receive(room[0])

    def transmit(self, data: memoryview) -> int:
        """Write to the sink. Errors: BlockingIOError, OSError."""
        return _write(self.sink, data) if self.sink_tls is None else self.sink_tls.send(data)

    def is_drained(self, was_short: bool) -> bool:
        """Whether the last read took all there was; of TLS a short read does not tell, as records come one by one."""
        return was_short if self.source_tls is None else self.source_tls.is_drained()

    def deliver(self, data: memoryview) -> bool:
        """Give the sink these bytes; False if it did not take them all, which stops this direction."""
        try:
            sent = self.transmit(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.refused(error)
            return False
        self.moved += sent
        if sent == len(data):
            return True
        self.hold(data[sent:])
        return False

    def hold(self, rest: memoryview) -> None:
        """Keep what the sink did not take; its next EPOLLOUT flushes it."""
        reactor = self.session.reactor
        reactor.held += len(rest)
        self.held = memoryview(bytes(rest))
        self.session.clear = False
        if not self.sink_tells_room:
            self.sink_tells_room = True
            reactor.renew(self.sink, STREAM_EDGES)

    def flush(self) -> None:
        """Try to give the sink what is held, and go on reading once that is gone."""
        assert self.held is not None
        if self.owes_end():
            self.let_go()
            if self.other is not None:
                self.pass_end_on(self.other)
            return
        try:
            sent = self.transmit(self.held)
        except BlockingIOError:
            return
        except OSError as error:
            self.refused(error)
            return
        self.moved += sent
        if sent < len(self.held):
            self.held = self.held[sent:]
            return
        self.let_go()
        self.session.settle()
        self.pump()

    def let_go(self) -> None:
        """Forget what is held."""
        if self.held is not None:
            assert isinstance(self.held.obj, bytes)
            self.session.reactor.held -= len(self.held.obj)
            self.held = None

    def finish(self) -> None:
        """The source has ended in order, and all it sent has been passed on: pass the end on too."""
        other = self.other
        if other is None:
            return
        if self.fault is not None and not self.is_whole():
            self.broke()
            return
        self.ended = True
        self.ended_second = other.ended
        self.session.clear = False
        if other.ended and self.sink_tls is None and not other.owes_end():
            self.session.both_ended(first=other)
            return
        self.pass_end_on(other)

    def owes_end(self) -> bool:
        """Whether the sink has still to be told that this direction has ended."""
        return self.held is not None and not len(self.held)

    def pass_end_on(self, other: Stream) -> None:
        """Tell the sink that no more will come."""
        try:
            self.session.end_sink(self)
        except BlockingIOError:
            self.hold(NOTHING)  # what says so in TLS waits for room
            return
        except OSError as error:
            if not other.ended:  # else the peer has said its last word, and need not wait for ours
                self.refused(error)
                return
        if other.ended and not other.owes_end():
            self.session.both_ended(first=other if self.ended_second else self)
        elif self.fault is not None:
            self.broke()

    def refused(self, error: OSError) -> None:
        """The sink is dead. What it sent before it died is still in its socket and is passed on first."""
        other = self.other
        if other is None:
            return
        self.session.clear = False
        if other.fault is None:
            other.fault = error
        other.ending = True
        if other.ended or (other.is_waiting() and not other.is_whole()):
            other.broke()
        else:
            other.pump()

    def is_waiting(self) -> bool:
        """Whether the source is not read now, so that reading does not tell of its death."""
        return self.held is not None or self.ended

    def is_whole(self) -> bool:
        """Whether the dead source is a backend that had ended before it was reset: its answer lacks nothing.

        The kernel then says EPIPE where it says ECONNRESET else (tcp_reset), and the end is still there to be read.
        """
        return self is self.session.outbound and self.fault is not None and self.fault.errno == errno.EPIPE

    def broke(self) -> None:
        """The source was reset, or was found dead."""
        if self.other is not None:
            self.session.broke(self)

    def pump_again(self) -> None:
        """Go on after a pause."""
        self.queued = False
        self.pump()
