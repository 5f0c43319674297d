"""A ClientHello gives the same name however it comes, and whatever else comes is refused without a word."""

from __future__ import annotations

import ssl
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harbor.policy.client_hello import LONGEST_HELLO, LONGEST_RECORD, MOST, HelloReader, Verdict
from harbor.policy.sni import matching
from support.client_hello import body, hello, message, records, server_name


def read(pieces: Iterable[bytes]) -> HelloReader:
    reader = HelloReader()
    for piece in pieces:
        reader.feed(memoryview(piece))
    return reader


def outcome(pieces: Iterable[bytes]) -> tuple[Verdict, str | None]:
    reader = read(pieces)
    return reader.verdict, reader.server_name


def of_openssl(name: str | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """What Python's own TLS says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["shop.example.com", "a" * 60 + ".example.com", None])
def test_the_name_in_what_a_real_client_says(name: str | None, version: ssl.TLSVersion) -> None:
    assert outcome([of_openssl(name, version)]) == (Verdict.WHOLE, name)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 16_384])
def test_D03_split_at_every_byte_and_over_many_records_it_is_the_same(size: int) -> None:
    said = records(message(hello("shop.example.com")), size)
    for cut in range(len(said) + 1):
        assert outcome([said[:cut], said[cut:]]) == (Verdict.WHOLE, "shop.example.com")
    assert outcome(bytes([byte]) for byte in said) == (Verdict.WHOLE, "shop.example.com")


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 6, 50])
def test_D05_what_has_not_all_come_is_waited_for(cut: int) -> None:
    assert outcome([records(message(hello("shop.example.com")))[:cut]]) == (Verdict.UNFINISHED, None)
    assert outcome([records(message(hello("shop.example.com")))[:-1]]) == (Verdict.UNFINISHED, None)


@given(data=st.data(), name=st.from_regex(r"[a-z]{1,20}(\.[a-z]{1,20}){0,3}", fullmatch=True))
def test_D03_arbitrary_records_in_arbitrary_pieces_give_the_same_name(data: st.DataObject, name: str) -> None:
    filling = data.draw(st.lists(st.binary(max_size=40), max_size=4))
    extensions = [(1000 + number, content) for number, content in enumerate(filling)]
    at = data.draw(st.integers(0, len(extensions)))
    said = message(body([*extensions[:at], server_name(name.encode()), *extensions[at:]]))
    stream = b""
    while said:
        size = data.draw(st.integers(1, 60))
        stream, said = stream + records(said[:size]), said[size:]
    stream += data.draw(st.binary(max_size=20))  # what follows is none of our business
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert outcome(pieces) == (Verdict.WHOLE, name)


@given(data=st.data())
def test_D03_what_is_decided_does_not_depend_on_the_pieces_it_comes_in(data: st.DataObject) -> None:
    """A good message in which something is wrong: whole or byte by byte, the verdict is one."""
    said = bytearray(records(message(hello("shop.example.com")), data.draw(st.integers(1, 80))))
    for _ in range(data.draw(st.integers(1, 3))):
        said[data.draw(st.integers(0, len(said) - 1))] = data.draw(st.integers(0, 255))
    assert outcome([bytes(said)]) == outcome(bytes([byte]) for byte in said)


@given(st.lists(st.binary(max_size=300), max_size=10))
@example([b"\x16\x03\x01\x00\x00"])
@example([b"\x16\x03\x01\x40\x01"])
@example([b"\x16\x03\x01\x00\x04\x01\xff\xff\xff"])
@example([records(message(b""))])
@example([records(message(body([(0, b"")])))])
@example([records(message(body([(0, b"\x00\x00")])))])
def test_D02_whatever_is_said_nothing_is_raised(pieces: list[bytes]) -> None:
    verdict, name = outcome(pieces)
    assert verdict in Verdict
    assert name is None or verdict is Verdict.WHOLE


@given(st.binary(max_size=300))
def test_D02_whatever_a_message_holds_nothing_is_raised(content: bytes) -> None:
    verdict, name = outcome([records(message(content))])
    assert verdict in (Verdict.WHOLE, Verdict.MALFORMED)
    assert all(ord(letter) < 256 for letter in name or "")
    matching(name)


@pytest.mark.parametrize("size", [LONGEST_RECORD, 1000, 100])
def test_D04_up_to_16_KiB_are_read(size: int) -> None:
    rest = LONGEST_HELLO - len(hello("shop.example.com"))
    said = message(body([server_name(b"shop.example.com"), (41, bytes(rest))]))
    assert len(said) == 4 + LONGEST_HELLO
    assert outcome([records(said, size)]) == (Verdict.WHOLE, "shop.example.com")


@pytest.mark.parametrize("declared", [LONGEST_HELLO + 1, 65_536, 0xFFFFFF])
def test_D04_a_longer_message_is_refused_as_soon_as_it_says_so(declared: int) -> None:
    said = b"\x01" + declared.to_bytes(3, "big")
    assert outcome([records(said)]) == (Verdict.MALFORMED, None)


def test_D04_small_records_are_read_up_to_a_bound() -> None:
    fits = message(hello("shop.example.com", filling=5000))
    assert outcome([records(fits, 1)]) == (Verdict.WHOLE, "shop.example.com")
    too_many = records(message(hello("shop.example.com", filling=MOST // 6)), 1)
    assert outcome([too_many]) == outcome(bytes([byte]) for byte in too_many) == (Verdict.MALFORMED, None)


def test_D04_memory_is_bounded_whatever_comes() -> None:
    reader = HelloReader()
    while reader.feed(records(b"\x01\x00\x3f\x00" + bytes(60), 64)) is Verdict.UNFINISHED:
        assert len(reader._hello) + len(reader._unread) <= MOST
    assert reader.verdict is Verdict.MALFORMED


@pytest.mark.parametrize(
    "first",
    [b"GET / HTTP/1.1\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x80\x2e\x01\x03\x01", b"\x15\x03\x01\x00\x02", bytes(8)],
)
def test_D06_what_is_no_TLS_is_known_by_its_first_byte(first: bytes) -> None:
    assert outcome([first[:1]]) == outcome([first]) == (Verdict.NOT_TLS, None)


@pytest.mark.parametrize(
    "said",
    [
        records(b"\x02" + bytes(50)),  # a ServerHello
        records(message(hello("a.test"))[:50]) + b"\x17\x03\x03\x00\x01\x00",  # data in between
        records(message(hello("a.test"))[:50]) + b"\x16\x03\x01\x00\x00",  # an empty record
        records(message(hello("a.test")[:-1])),  # an extension shorter than it says
        records(message(hello("a.test") + b"\x00")),  # something behind the extensions
        records(message(body([server_name(b"a.test"), server_name(b"b.test")]))),
        records(message(body([(0, b"\x00\x05\x01\x00\x02ab")]))),  # a name of another type
        records(message(body([(0, b"\x00\x0a\x00\x00\x02ab\x00\x00\x02cd")]))),  # two names
        records(message(body([(0, b"\x00\x05\x00\x00\x02ab\x00")]))),  # something behind the list
        records(message(body([(0, b"\x00\x05\x00\x00\x03ab")]))),
    ],
)
def test_what_two_readers_could_understand_differently_is_refused(said: bytes) -> None:
    assert outcome([said]) == (Verdict.MALFORMED, None)


@pytest.mark.parametrize("name", [b"", b"a\0b.test", b"\xff\xfe", b"a" * 256, b"a" * 10_000, b"192.0.2.1", b"../etc"])
def test_D02_a_name_that_is_none_is_left_to_the_matching(name: bytes) -> None:
    verdict, found = outcome([records(message(body([server_name(name)])))])
    assert (verdict, found) == (Verdict.WHOLE, name.decode("latin-1"))


def test_a_hello_without_extensions_asks_for_no_name() -> None:
    assert outcome([records(message(body(None)))]) == (Verdict.WHOLE, None)
