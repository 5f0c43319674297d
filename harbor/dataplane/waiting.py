"""Where TCP clients wait that found their service full: accepted, unread, and each with nothing but its descriptor.

Who waits is a session already, so that it can be seen and killed, but has no backend and no dial. Its turn comes when
a session ends, a backend comes, or the policy allows more; until then what it sends stays in the kernel.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from harbor.dataplane.reactor import FAILED, HUNG_UP, PEER_ENDED, READ_EDGES, Watcher
from harbor.model import Reason
from harbor.model.limits import Queue
from harbor.policy.line import Line

if TYPE_CHECKING:
    from harbor.dataplane.session import TcpSession
    from harbor.dataplane.tcp import TcpListener

LOOK_EVERY: Final = 0.1  # seconds between looks at who has waited too long, while anybody waits


class Patient(Watcher):
    """A client that waits. It may leave."""

    __slots__ = ("_session",)

    def __init__(self, session: TcpSession) -> None:
        self._session = session

    def on_news(self, events: int) -> None:
        """It speaks, which can wait too, ends or leaves."""
        session = self._session
        if events & FAILED or (events & (PEER_ENDED | HUNG_UP) and not session.wants_an_answer()):
            session.end(Reason.CLIENT_RESET)


class WaitingRoom:
    """The line of one service, and who moves it on."""

    def __init__(self, listener: TcpListener, queue: Queue) -> None:
        self._listener = listener
        self._line: Line[TcpSession] = Line(queue.size, queue.timeout)
        self._is_moving = False
        self._is_looking = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._line)

    def follow(self, queue: Queue | None) -> None:
        """Take in as the policy says from now on; who waits already stays."""
        self._line.size = 0 if queue is None else queue.size
        if queue is not None:
            self._line.timeout = queue.timeout

    def take_in(self, session: TcpSession, is_watched: bool) -> bool:
        """Let a session wait, whose client is watched already or not; False if there is no room."""
        reactor = self._listener.reactor
        if not self._line.join(session, time.monotonic()):
            return False
        if is_watched:
            reactor.hand_over(session.client, Patient(session))
            reactor.renew(session.client, READ_EDGES)  # whether it has left already is news once more
        else:
            reactor.watch(session.client, Patient(session), READ_EDGES)
        if not self._is_looking:
            self._is_looking = True
            reactor.loop.call_later(LOOK_EVERY, self._look)
        return True

    def left(self, session: TcpSession) -> None:
        """A session has ended, whether it waited or not: somebody's turn may have come."""
        self._line.leave(session)
        self.move()

    def move(self) -> None:
        """There may be room now: let those go whose turn it is, once all that happens now has happened."""
        if self._line.first() is not None and not self._is_moving:
            self._is_moving = True
            self._listener.reactor.again(self._move)

    def _move(self) -> None:
        self._is_moving = False
        line, listener = self._line, self._listener
        while (session := line.first()) is not None and listener.has_room():
            line.leave(session)
            listener.begin(session, is_watched=True, may_wait=False)

    def _look(self) -> None:
        self._is_looking = False
        line, reactor = self._line, self._listener.reactor
        for session in line.overdue(time.monotonic()):
            line.leave(session)
            session.unreachable(Reason.QUEUE_TIMEOUT)
        if line.first() is not None:
            self._is_looking = True
            reactor.loop.call_later(LOOK_EVERY, self._look)
            self.move()
