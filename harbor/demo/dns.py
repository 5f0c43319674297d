"""Just enough DNS to say who answered: every TXT question gets one text (RFC 1035), whatever name it asks about."""

from __future__ import annotations

import struct
from typing import Final

HEADER: Final = struct.Struct("!HHHHHH")  # id, flags, and the counts of questions, answers, authorities, extras
TXT: Final = 16
ANY: Final = 255
IN: Final = 1
RESPONSE: Final = 0x8400  # QR and AA: an answer, by who is responsible for the name
QUESTION: Final = 0x8000  # QR: set in answers, which nobody should answer again
OPCODE: Final = 0x7800
RECURSION_DESIRED: Final = 0x0100  # copied from the question
NOT_IMPLEMENTED: Final = 4
FORMAT_ERROR: Final = 1
TO_THE_QUESTION: Final = 0xC000 | HEADER.size  # a compressed name: "as at offset 12"


def answer(query: bytes, text: str) -> bytes | None:
    """The reply to a DNS query; None to what is none. ``text`` has at most 255 bytes.

    Extras of the query, such as EDNS options, are ignored, as RFC 6891 §7 has it for who does not know them.
    """
    if len(query) < HEADER.size:
        return None
    ident, flags, questions, *_ = HEADER.unpack_from(query)
    if flags & QUESTION:
        return None
    reply = RESPONSE | flags & (OPCODE | RECURSION_DESIRED)
    if flags & OPCODE:
        return HEADER.pack(ident, reply | NOT_IMPLEMENTED, 0, 0, 0, 0)
    end = _end_of_name(query, HEADER.size)
    if questions != 1 or end is None or end + 4 > len(query):
        return HEADER.pack(ident, reply | FORMAT_ERROR, 0, 0, 0, 0)
    kind, family = struct.unpack_from("!HH", query, end)
    question = query[HEADER.size : end + 4]
    if kind not in (TXT, ANY) or family not in (IN, ANY):
        return HEADER.pack(ident, reply, 1, 0, 0, 0) + question
    data = text.encode()
    # ttl 0: a resolver in between that remembered the answer would hide who gives it.
    record = struct.pack("!HHHIHB", TO_THE_QUESTION, TXT, IN, 0, len(data) + 1, len(data)) + data
    return HEADER.pack(ident, reply, 1, 1, 0, 0) + question + record


def _end_of_name(message: bytes, start: int) -> int | None:
    """Where the name that begins at ``start`` ends; None if it does not, or is compressed, which questions are not."""
    at = start
    while at < len(message) and (length := message[at]) < 64:
        if length == 0:
            return at + 1
        at += 1 + length
    return None
