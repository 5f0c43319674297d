"""A DNS query and whether something is a reply to it (RFC 1035 §4)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from harbor.model.health import DNS_CODES

HEADER: Final = struct.Struct("!HHHHHH")  # id, flags, and the counts of questions, answers, authorities, extras
RESPONSE: Final = 0x8000
OPCODE: Final = 0x7800
RECURSION_DESIRED: Final = 0x0100
CODE: Final = 0x000F
INTERNET: Final = 1
NAMES: Final = {code: name for name, code in DNS_CODES.items()}


def query(ident: int, labels: Sequence[str], kind: int) -> bytes:
    """A question of this type about the name of these labels."""
    name = b"".join(bytes((len(label),)) + label.encode("ascii") for label in labels)
    return HEADER.pack(ident, RECURSION_DESIRED, 1, 0, 0, 0) + name + struct.pack("!BHH", 0, kind, INTERNET)


def code_of(reply: bytes, asked: bytes) -> str:
    """The code of a reply to what was asked, by its name. Errors: ``ValueError`` that says why it is none."""
    if len(reply) < HEADER.size:
        raise ValueError("the answer is too short for DNS")
    ident, flags, questions, *_ = HEADER.unpack_from(reply)
    if ident != HEADER.unpack_from(asked)[0] or not flags & RESPONSE or flags & OPCODE:
        raise ValueError("the answer is no reply to the question")
    question = asked[HEADER.size :]
    # Who cannot read a question may leave it out (RFC 1035 is silent, servers do); names come back in any case.
    if questions and (questions > 1 or reply[HEADER.size :][: len(question)].lower() != question.lower()):
        raise ValueError("the answer is to another question")
    code = flags & CODE
    return NAMES.get(code, f"code {code}")
