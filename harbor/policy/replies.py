"""What the replies of one UDP flow may be: how many are expected, and how much a client gets that proved nothing.

Theory. Whoever forges the address of a victim makes a service send its replies there. A client that sends again after
it was answered has shown that it receives; until then ``reply_budget`` bounds what it is sent (RFC 9000 §8.1 does the
same for QUIC). And where each request has a known number of replies, a flow is over when they have come:
``udp_requests`` and ``udp_responses``, in the meaning that nginx gave them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harbor.model.policy import Policy

if TYPE_CHECKING:
    from harbor.policy.flows import Flow


class ReplyBounds:
    """The bounds of one flow."""

    __slots__ = ("_asked", "_budget", "_left", "_requests", "_responses")

    def __init__(self, policy: Policy, has_proven: bool = False) -> None:
        self._requests = policy.udp_requests
        self._responses = policy.udp_responses
        self._budget = policy.reply_budget > 0 and not has_proven  # whether it is still in force
        self._left = policy.reply_budget  # bytes
        self._asked = 0  # datagrams that the client had sent when it was answered first; 0: not yet

    def admit(self, flow: Flow, size: int) -> bool:
        """Whether a reply of so many bytes may go to the client; if it may, it is taken from the budget."""
        if not self._budget:
            return True
        if self._asked and flow.datagrams_in > self._asked:
            self._budget = False
            return True
        if size > self._left:
            return False
        self._left -= size
        self._asked = self._asked or flow.datagrams_in
        return True

    def is_over(self, flow: Flow) -> bool:
        """Whether all replies have come that the client's datagrams can have."""
        if not self._responses or flow.datagrams_in < self._requests:
            return False
        return flow.datagrams_out >= self._responses * flow.datagrams_in


def reply_bounds(policy: Policy, has_proven: bool) -> ReplyBounds | None:
    """The bounds of a new flow; None where the policy sets none."""
    if policy.udp_responses or policy.reply_budget:
        return ReplyBounds(policy, has_proven)
    return None
