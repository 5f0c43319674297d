"""Why a session ended or a datagram was dropped: one vocabulary for logs, metrics, API and events."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The one reason with which every session ends."""

    __hash__ = str.__hash__  # Enum's own is Python code, and every session end looks one up

    CLIENT_CLOSED = "client_closed"  # both sides ended in order, the client first
    BACKEND_CLOSED = "backend_closed"  # both sides ended in order, the backend first
    CLIENT_RESET = "client_reset"  # the client sent a reset, or left before it had a backend or within a request
    BACKEND_RESET = "backend_reset"  # the backend sent a reset or went away
    CONNECT_REFUSED = "connect_refused"  # every backend tried refused the connection
    CONNECT_TIMEOUT = "connect_timeout"  # connect_timeout ran out before a backend answered
    CONNECT_FAILED = "connect_failed"  # no backend could be reached (no route, no descriptors ...)
    NO_BACKEND = "no_backend"  # the service has no backend that takes traffic
    TLS_HANDSHAKE_FAILED = "tls_handshake_failed"  # the client did not shake hands, or not in time
    SERVER_NAME_UNKNOWN = "server_name_unknown"  # no service on the shared port takes the server name
    TLS_TRUNCATED = "tls_truncated"  # the client's TLS ended without saying so; what it sent may not be all
    BACKEND_TLS_FAILED = "backend_tls_failed"  # no backend tried shook hands as it should, or in time
    BACKEND_TRUNCATED = "backend_truncated"  # the backend's TLS ended without saying so; its answer may not be whole
    PROXY_UNTRUSTED = "proxy_untrusted"  # a peer outside accept_proxy
    PROXY_HEADER_INVALID = "proxy_header_invalid"  # a proxy sent no PROXY header, a wrong one, or not in time
    BAD_REQUEST = "bad_request"  # the client's HTTP was malformed, ambiguous or too slow
    BAD_RESPONSE = "bad_response"  # the backend's HTTP was malformed
    IDLE_TIMEOUT = "idle_timeout"  # nothing moved for idle_timeout (TCP) or udp_timeout (UDP)
    HALF_CLOSE_TIMEOUT = "half_close_timeout"  # one side had ended, and nothing moved for half_close_timeout
    ANSWERED = "answered"  # a UDP flow had all the replies that udp_responses expects
    MAX_SESSION_AGE = "max_session_age"  # it was as old as max_session_age lets sessions become
    ACL_DENIED = "acl_denied"  # the client's address is in deny, or not in allow
    LIMIT_SOURCE = "limit_source"  # max_sessions_per_source reached
    LIMIT_RATE = "limit_rate"  # sessions_per_second, or that of the client's address, reached
    LIMIT_SERVICE = "limit_service"  # max_sessions of the service reached, and its queue, if it has one, is full
    LIMIT_BACKEND = "limit_backend"  # max_sessions_per_backend reached on every backend, and the queue is full
    QUEUE_TIMEOUT = "queue_timeout"  # the client had waited for queue.timeout when the service was still full
    LIMIT_NODE = "limit_node"  # the node's descriptor budget is used up
    EVICTED = "evicted"  # a UDP flow gave its place to a newer one
    PROMOTED = "promoted"  # a UDP flow moved to the backend that was promoted
    DRAINED = "drained"  # the backend was draining and drain_timeout ran out
    BACKEND_REMOVED = "backend_removed"  # the backend was removed with removal: cut
    SERVICE_DELETED = "service_deleted"  # the service was deleted
    KILLED = "killed"  # an operator ended it
    SHUTDOWN = "shutdown"  # the node stopped


class Drop(StrEnum):
    """Why a datagram went nowhere."""

    __hash__ = str.__hash__

    NO_BACKEND = "no_backend"  # no backend to send it to
    ACL_DENIED = "acl_denied"  # it would begin a flow, and its sender is in deny, or not in allow
    LIMIT_RATE = "limit_rate"  # it would begin a flow, and these begin too fast
    LIMIT_PACKETS = "limit_packets"  # its sender sends too many (packets_per_second_per_source)
    LIMIT_BYTES = "limit_bytes"  # its sender sends too much (bytes_per_second_per_source)
    LIMIT_NODE = "limit_node"  # no flow could be opened for it
    BACKEND_REFUSED = "backend_refused"  # ICMP said that nobody listens there
    BACKEND_BUSY = "backend_busy"  # the socket buffer towards the backend was full
    CLIENT_BUSY = "client_busy"  # the socket buffer towards the client was full
    OVERSIZE = "oversize"  # too large for the path (EMSGSIZE)
    LATE_REPLY = "late_reply"  # the backend answered a flow that had ended
    UNREACHABLE = "unreachable"  # the network refused it
    BANDWIDTH = "bandwidth"  # more than bandwidth allows
    REPLY_BUDGET = "reply_budget"  # more than reply_budget for a client that had not shown that it receives
    PROXY_UNTRUSTED = "proxy_untrusted"  # its sender is outside accept_proxy
    PROXY_HEADER_INVALID = "proxy_header_invalid"  # no PROXY header in front of it, a wrong one, or another client's
    RECEIVE_QUEUE = "receive_queue"  # the kernel's receive queue of the port was full
