"""Headers of the PROXY protocol: what is read as one, and what never is, however it arrives; and what is written."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import proxy_header as fuzz
from harbor.model import Address, Protocol
from harbor.policy.proxy_header import (
    LOCAL,
    LONGEST,
    LONGEST_V1,
    NOBODY,
    SIGNATURE,
    HeaderRefused,
    ProxyHeader,
    crc32c,
    read,
    tls_tlvs,
    write_simple,
    write_v1,
    write_v2,
)

TCP, UDP = Protocol.TCP, Protocol.UDP
CLIENT, SERVER = Address("192.0.2.7", 50000), Address("198.51.100.1", 443)
CLIENT6, SERVER6 = Address("2001:db8::7", 50000), Address("2001:db8::1", 443)
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n"
V1_6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 443\r\n"
ADDRESSES = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 50000, 443)
HEADER = ProxyHeader(CLIENT, SERVER)
HEADER6 = ProxyHeader(CLIENT6, SERVER6)


def v2(body: bytes = ADDRESSES, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def with_checksum(before: bytes = b"", after: bytes = b"") -> bytes:
    blank = v2(ADDRESSES + before + tlv(3, bytes(4)) + after)
    at = len(blank) - len(after) - 4
    return blank[:at] + struct.pack("!I", crc32c(blank)) + blank[at + 4 :]


def is_refused(data: bytes, protocol: Protocol = TCP) -> bool:
    try:
        found = read(data, protocol)
    except HeaderRefused as refused:
        words = refused.message
    else:
        assert found is None or found[1] <= len(data)
        return False
    assert words.isprintable()  # whatever a peer sends: it is told in one harmless line
    assert len(words) < 200
    return True


ACCEPTED = {
    "v1-tcp4": (V1, HEADER),
    "v1-tcp6": (V1_6, HEADER6),
    "v1-tcp6-upper": (b"PROXY TCP6 2001:DB8::7 2001:DB8::1 50000 443\r\n", HEADER6),
    "v1-unknown": (b"PROXY UNKNOWN\r\n", NOBODY),
    "v1-unknown-with-more": (b"PROXY UNKNOWN ffff::1 ?? \x00 99999999\r\n", NOBODY),
    "v1-mapped": (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 50000 443\r\n", HEADER),
    "v1-extremes": (
        b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
        ProxyHeader(Address("0.0.0.0", 0), Address("255.255.255.255", 65535)),
    ),
    "v2-tcp4": (v2(), HEADER),
    "v2-tcp6": (write_v2(CLIENT6, SERVER6, TCP), HEADER6),
    "v2-mapped": (
        v2(bytes(10) + b"\xff\xff" + ADDRESSES[:4] + bytes(10) + b"\xff\xff" + ADDRESSES[4:], family=0x21),
        HEADER,
    ),
    "v2-unspecified": (v2(b"", family=0), NOBODY),
    "v2-unspecified-with-more": (v2(b"whatever", family=0), NOBODY),
    "v2-unix": (v2(bytes(216), family=0x31), NOBODY),
    "v2-local": (LOCAL, NOBODY),
    "v2-local-with-address": (v2(command=0x20), NOBODY),
    "v2-local-with-short-address": (v2(b"abc", command=0x20), NOBODY),
    "v2-local-of-a-family-to-come": (v2(b"abc", command=0x20, family=0x77), NOBODY),
    "v2-values": (v2(ADDRESSES + tlv(1, b"h2") + tlv(4, bytes(20)) + tlv(0xEE, b"")), HEADER),
    "v2-checksum": (with_checksum(tlv(1, b"h2"), tlv(0xE0, b"x")), HEADER),
    "v2-longest": (v2(ADDRESSES + tlv(4, bytes(536 - 12 - 3))), HEADER),
}
accepted = pytest.mark.parametrize(("data", "header"), ACCEPTED.values(), ids=ACCEPTED)


@pytest.mark.parametrize("name", [name for name in ACCEPTED if name.startswith("v1")])
def test_E01_a_line_of_text_is_read(name: str) -> None:
    data, header = ACCEPTED[name]
    assert read(data, TCP) == (header, len(data))


def test_E02_a_line_may_have_107_bytes_and_no_more() -> None:
    longest = b"PROXY UNKNOWN ".ljust(LONGEST_V1 - 2, b"f") + b"\r\n"
    assert len(longest) == 107
    assert read(longest, TCP) == (NOBODY, 107)
    assert is_refused(longest[:-2] + b"f\r\n")
    assert is_refused(longest[:-2] + b"f\r")  # it can become no header any more


@pytest.mark.parametrize(
    "line",
    [
        V1.replace(b"\r\n", b"\n"),
        V1.replace(b"\r\n", b"\r") + b"x",
        V1.replace(b"\r\n", b"\n\r\n"),
        V1.replace(b"\r\n", b"\r\r\n"),
        V1.replace(b" 443", b"\r443"),
        b"PROXY UNKNOWN\n" + V1,
        b"PROXY \n",
        b"PROXY \r\r",
    ],
)
def test_E03_a_carriage_return_or_a_line_feed_alone_ends_no_line(line: bytes) -> None:
    assert is_refused(line)


E04 = {
    "leading-zero-in-address": b"PROXY TCP4 192.0.2.07 198.51.100.1 50000 443",
    "leading-zero-in-port": b"PROXY TCP4 192.0.2.7 198.51.100.1 050000 443",
    "negative": b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 443",
    "plus": b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 443",
    "65536": b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443",
    "huge": b"PROXY TCP4 192.0.2.7 198.51.100.1 99999999999999999999 443",
    "hex-port": b"PROXY TCP4 192.0.2.7 198.51.100.1 0x50 443",
    "hex-address": b"PROXY TCP4 0xc0000207 198.51.100.1 50000 443",
    "short-address": b"PROXY TCP4 192.0.519 198.51.100.1 50000 443",
    "256": b"PROXY TCP4 192.0.2.256 198.51.100.1 50000 443",
    "double-space": b"PROXY TCP4  192.0.2.7 198.51.100.1 50000 443",
    "trailing-space": b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443 ",
    "tab": b"PROXY TCP4\t192.0.2.7 198.51.100.1 50000 443",
    "lower-case": b"proxy tcp4 192.0.2.7 198.51.100.1 50000 443",
    "lower-case-family": b"PROXY tcp4 192.0.2.7 198.51.100.1 50000 443",
    "v4-in-TCP6": b"PROXY TCP6 192.0.2.7 198.51.100.1 50000 443",
    "v6-in-TCP4": b"PROXY TCP4 2001:db8::7 2001:db8::1 50000 443",
    "scope": b"PROXY TCP6 fe80::7%eth0 fe80::1 50000 443",
    "brackets": b"PROXY TCP6 [2001:db8::7] [2001:db8::1] 50000 443",
    "other-digits": "PROXY TCP4 192.0.2.7 198.51.100.1 ٥٠ 443".encode(),
    "nul": b"PROXY TCP4 192.0.2.7\x00 198.51.100.1 50000 443",
    "name": b"PROXY TCP4 localhost 198.51.100.1 50000 443",
    "UDP4": b"PROXY UDP4 192.0.2.7 198.51.100.1 50000 443",
    "TCP5": b"PROXY TCP5 192.0.2.7 198.51.100.1 50000 443",
    "UNKNOWN-and-more": b"PROXY UNKNOWNX",
}


@pytest.mark.parametrize("line", E04.values(), ids=E04)
def test_E04_a_number_or_a_word_in_another_spelling_is_refused(line: bytes) -> None:
    assert is_refused(line + b"\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY ",
        b"PROXY TCP4",
        b"PROXY TCP4 ",
        b"PROXY TCP4 192.0.2.7",
        b"PROXY TCP4 192.0.2.7 198.51.100.1",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 50000",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 ",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443 1",
        b"PROXY TCP4 50000 443 192.0.2.7 198.51.100.1",
    ],
)
def test_E05_missing_and_extra_fields_are_refused(line: bytes) -> None:
    assert is_refused(line + b"\r\n")


@accepted
@pytest.mark.parametrize("payload", [b"", b"\r\n", b"GET / HTTP/1.1\r\n\r\n", V1, SIGNATURE])
def test_E06_a_header_split_at_every_byte_is_the_same_and_leaves_the_payload(
    data: bytes, header: ProxyHeader, payload: bytes
) -> None:
    for length in range(len(data)):
        assert read(data[:length], TCP) is None
    for length in range(len(payload) + 1):
        assert read(data + payload[:length], TCP) == (header, len(data))


@pytest.mark.parametrize("data", [b"", b"P", b"PROXY", b"PROXY T", b"\r", SIGNATURE, v2()[:15], v2()[:-1]])
def test_E07_what_may_become_a_header_is_waited_for(data: bytes) -> None:
    assert read(data, TCP) is None


def test_E08_a_line_that_does_not_end_is_refused_at_its_108th_byte_at_the_latest() -> None:
    assert not is_refused(b"PROXY TCP4 ".ljust(LONGEST_V1 - 1, b"1"))
    assert is_refused(b"PROXY TCP4 ".ljust(LONGEST_V1, b"1"))
    assert is_refused(b"PROXY TCP4 " + b"1" * 1_000_000)


@pytest.mark.parametrize("command", [0x00, 0x01, 0x11, 0x22, 0x2F, 0x31, 0xFF])
def test_E09_another_version_or_command_is_refused(command: int) -> None:
    assert is_refused(v2(command=command))
    assert is_refused(v2(command=command)[:16])  # before the rest is waited for


@pytest.mark.parametrize("family", [0x01, 0x02, 0x10, 0x13, 0x1F, 0x20, 0x30, 0x33, 0x41, 0xF1, 0xFF])
def test_E09_another_family_or_transport_is_refused(family: int) -> None:
    assert is_refused(v2(bytes(216), family=family))
    assert is_refused(v2(bytes(216), family=family), UDP)


@pytest.mark.parametrize(("family", "protocol"), [(0x12, TCP), (0x22, TCP), (0x11, UDP), (0x21, UDP)])
def test_E09_a_header_of_the_other_protocol_is_refused(family: int, protocol: Protocol) -> None:
    assert is_refused(v2(bytes(36), family=family), protocol)
    other = UDP if protocol is TCP else TCP
    assert not is_refused(v2(bytes(36), family=family), other)


def test_E09_a_line_of_text_introduces_no_datagram() -> None:
    assert is_refused(V1, UDP)
    assert is_refused(b"PROX", UDP)


@pytest.mark.parametrize("name", [name for name in ACCEPTED if "local" in name])
def test_E10_a_proxy_that_speaks_for_itself_names_nobody_whatever_address_it_adds(name: str) -> None:
    data, header = ACCEPTED[name]
    for protocol in (TCP, UDP):
        assert read(data + b"payload", protocol) == (header, len(data))


@pytest.mark.parametrize(("family", "size"), [(0x11, 12), (0x21, 36), (0x31, 216)])
def test_E11_a_length_without_room_for_the_addresses_is_refused(family: int, size: int) -> None:
    assert is_refused(v2(bytes(size - 1), family=family))
    assert is_refused(v2(b"", family=family))
    assert not is_refused(v2(bytes(size), family=family))


@pytest.mark.parametrize("length", [537, 1000, 65535])
@pytest.mark.parametrize("command", [0x20, 0x21])
def test_E11_a_length_of_more_than_a_header_may_have_is_refused_before_it_is_waited_for(
    length: int, command: int
) -> None:
    assert is_refused(v2(b"", command=command, length=length))
    assert is_refused(v2(b"", command=command, length=length) + bytes(length))


@pytest.mark.parametrize(
    "tail",
    [
        b"\x01",
        b"\x01\x00",
        tlv(1, b"h2") + b"\x01",
        tlv(1, b"h2") + b"\x01\x00",
        b"\x01\x00\x01",
        b"\x01\x00\x03h2",
        b"\x01\xff\xffh2",
        b"\x04\x00\x00\x04\x00\x01",
    ],
)
def test_E12_a_value_past_the_end_of_the_header_is_refused(tail: bytes) -> None:
    assert is_refused(v2(ADDRESSES + tail))
    assert is_refused(v2(ADDRESSES + tail) + bytes(1000))  # what follows the header is not its


@pytest.mark.parametrize("name", [b"\xff\xfe\x00\n\x1b[31m", b"a\x00b", b"\r\nX: y", b"", b"a" * 500])
def test_E13_a_server_name_that_is_none_changes_nothing(name: bytes) -> None:
    data = v2(ADDRESSES + tlv(2, name))
    assert read(data, TCP) == (HEADER, len(data))


def test_E14_a_client_of_another_family_than_the_port_is_only_data() -> None:
    assert read(V1_6, TCP) == (HEADER6, len(V1_6))
    both = write_v2(CLIENT6, SERVER, TCP)
    assert read(both, TCP) == (ProxyHeader(CLIENT6, SERVER), len(both))
    line = write_v1(CLIENT6, SERVER)
    assert line == b"PROXY TCP6 2001:db8::7 ::ffff:198.51.100.1 50000 443\r\n"
    assert read(line, TCP) == (ProxyHeader(CLIENT6, SERVER), len(line))


def test_E15_a_checksum_that_does_not_fit_is_refused() -> None:
    data = with_checksum(tlv(1, b"h2"), tlv(0xE0, b"x"))
    assert read(data, TCP) == (HEADER, len(data))
    kind = data.index(tlv(3, b"")[:1] + b"\x00\x04")  # changed, it would announce something else than a checksum
    for at in {*range(16, len(data))} - {kind}:
        broken = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert is_refused(broken), at


def test_E15_there_is_one_checksum_and_it_has_four_bytes() -> None:
    assert is_refused(v2(ADDRESSES + tlv(3, b"")))
    assert is_refused(v2(ADDRESSES + tlv(3, bytes(5))))
    once = with_checksum()
    twice = once[:14] + struct.pack("!H", len(once) - 16 + 7) + once[16:] + once[-7:]
    assert is_refused(twice)


def test_the_checksum_is_that_of_rfc_3720() -> None:
    """Appendix B.4."""
    assert crc32c(bytes(32)).to_bytes(4, "little") == bytes.fromhex("aa36918a")
    assert crc32c(b"\xff" * 32).to_bytes(4, "little") == bytes.fromhex("43aba862")
    assert crc32c(bytes(range(32))).to_bytes(4, "little") == bytes.fromhex("4e79dd46")
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"PROXI", b" PROXY ", b"\r\nPROXY", b"\x00", b"\r\n\r\n\x01"],
)
def test_E16_what_begins_like_no_header_is_refused_at_once(data: bytes) -> None:
    assert is_refused(data)


def test_E17_every_byte_of_a_header_is_as_specified() -> None:
    assert write_v1(CLIENT, SERVER) == V1
    assert write_v1(CLIENT6, SERVER6) == V1_6
    assert write_v2(CLIENT, SERVER, TCP) == v2()
    assert write_v2(CLIENT, SERVER, UDP) == v2(family=0x12)
    both = bytes.fromhex("20010db8000000000000000000000007 20010db8000000000000000000000001") + ADDRESSES[8:]
    assert write_v2(CLIENT6, SERVER6, TCP) == v2(both, family=0x21)
    assert v2(b"", command=0x20, family=0) == LOCAL
    mapped = bytes(10) + b"\xff\xff"
    simple = b"\x56\xec" + mapped + ADDRESSES[:4] + mapped + ADDRESSES[4:8] + ADDRESSES[8:]
    assert write_simple(CLIENT, SERVER) == simple
    assert write_simple(CLIENT6, SERVER6) == b"\x56\xec" + both


def test_E17_a_header_tells_of_the_tls_that_ended_here() -> None:
    tlvs = tls_tlvs("TLSv1.3", "shop.example.com", has_certificate=False)
    inner = b"\x01\x00\x00\x00\x01" + tlv(0x21, b"TLSv1.3")
    assert write_v2(CLIENT, SERVER, TCP, tlvs) == v2(ADDRESSES + tlv(2, b"shop.example.com") + tlv(0x20, inner))
    assert tls_tlvs("TLSv1.2", None, has_certificate=True) == [(0x20, b"\x03\x00\x00\x00\x00" + tlv(0x21, b"TLSv1.2"))]


def test_E17_no_header_is_longer_than_receivers_have_to_take() -> None:
    longest = Address("1111:2222:3333:4444:5555:6666:7777:8888", 65535)
    assert len(write_v1(longest, longest)) <= LONGEST_V1
    data = write_v2(longest, longest, TCP, tls_tlvs("TLSv1.3", "a" * 255, has_certificate=True))
    assert len(data) <= LONGEST
    assert read(data, TCP) == (ProxyHeader(longest, longest), len(data))


def test_E17_the_scope_of_an_address_stays_at_home() -> None:
    local, other = Address("fe80::7%eth0", 1), Address("fe80::1%eth0", 2)
    assert write_v1(local, other) == b"PROXY TCP6 fe80::7 fe80::1 1 2\r\n"
    assert read(write_v2(local, other, UDP), UDP) == (ProxyHeader(Address("fe80::7", 1), Address("fe80::1", 2)), 52)


@pytest.mark.parametrize("first", [V1, v2()])
@pytest.mark.parametrize("second", [V1_6, write_v2(CLIENT6, SERVER6, TCP)])
def test_E18_the_second_of_two_headers_is_payload(first: bytes, second: bytes) -> None:
    assert read(first + second, TCP) == (HEADER, len(first))


hosts = st.ip_addresses().map(str)
ports = st.integers(0, 65535)
addresses = st.builds(Address, hosts, ports)


def as_read(address: Address) -> Address:
    """A mapped address is the one that it maps."""
    data = write_v1(address, address)
    found = read(data, TCP)
    assert found is not None
    assert found[0].client is not None
    return found[0].client


@given(
    addresses,
    addresses,
    st.lists(st.tuples(st.sampled_from([1, 2, 4, 5, 0x30, 0xEE]), st.binary(max_size=60)), max_size=5),
)
def test_E06_what_is_written_is_read(client: Address, destination: Address, tlvs: list[tuple[int, bytes]]) -> None:
    wanted = ProxyHeader(as_read(client), as_read(destination))
    for data in (write_v1(client, destination), write_v2(client, destination, TCP, tlvs)):
        assert read(data + b"\r\nmore", TCP) == (wanted, len(data))
    data = write_v2(client, destination, UDP, tlvs)
    assert read(data + b"more", UDP) == (wanted, len(data))


beginnings = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY UNKNOWN", SIGNATURE, *fuzz.seeds()])


@given(beginnings, st.binary(max_size=700))
def test_E19_any_bytes_are_a_header_or_are_refused(beginning: bytes, rest: bytes) -> None:
    fuzz.check(beginning + rest)


@given(st.sampled_from(fuzz.seeds()), st.randoms(use_true_random=False))
def test_E19_a_header_with_changed_bytes_is_read_or_refused(data: bytes, chance: random.Random) -> None:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    fuzz.check(bytes(changed))


@given(beginnings, st.binary(max_size=700), st.data(), st.sampled_from([TCP, UDP]))
def test_E19_any_bytes_in_any_pieces_come_to_the_same_end(
    beginning: bytes, rest: bytes, choice: st.DataObject, protocol: Protocol
) -> None:
    """Nothing is found before it is whole, and nothing that was refused would have become a header."""
    whole = beginning + rest
    final = fuzz.outcome(whole, protocol)
    for cut in choice.draw(st.lists(st.integers(0, len(whole)), max_size=20)):
        early = fuzz.outcome(whole[:cut], protocol)
        assert early is None or early == final or (isinstance(early, str) and isinstance(final, str))
