"""For whom a proxy forwards: headers of the PROXY protocol (versions 1 and 2) and of the Simple Proxy Protocol.

A header stands before the first byte of a connection, or in front of a datagram:

    v1      one line of text, at most 107 bytes                        PROXY TCP4 192.0.2.1 192.0.2.9 50000 443
    v2      a signature, command, family and length; then addresses and TLVs (type, length, value)
    simple  38 bytes, of UDP only; Cloudflare Spectrum's

Rule 1: ``read`` is total. Of any bytes whatever it makes a header, "not whole yet" or ``HeaderRefused``, in time O(n).
Rule 2: it guesses nothing and repairs nothing: what the specification does not allow to be sent is refused.
Rule 3: what is sent on is written anew from the addresses; no byte that came in is passed on.

Source: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt; for ``simple``
https://developers.cloudflare.com/spectrum/reference/simple-proxy-protocol-header
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from harbor.errors import Invalid
from harbor.model import Address, Protocol
from harbor.policy.naming import shown

LONGEST_V1: Final = 107  # bytes, the end of line included: two addresses of 39 characters (§2.1)
LONGEST: Final = 16 + 536  # bytes of a v2 header that every receiver has to take (§2.2)

V1_BEGINS: Final = b"PROXY "
SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
FIXED: Final = 16  # bytes of a v2 header before the addresses
LOCAL_COMMAND, PROXY_COMMAND = 0x20, 0x21
UNSPECIFIED: Final = 0x00
# family -> bytes of its two addresses. Those of Unix sockets tell nobody here anything.
FAMILIES: Final = {0x10: 12, 0x20: 36, 0x30: 216}
TRANSPORTS: Final = {Protocol.TCP: 0x01, Protocol.UDP: 0x02}
CRC32C: Final = 0x03
AUTHORITY: Final = 0x02
SSL: Final = 0x20
SSL_VERSION: Final = 0x21
CLIENT_SSL, CLIENT_CERTIFICATE = 0x01, 0x02  # flags of SSL; the certificate was shown in this very connection

SIMPLE_BEGINS: Final = b"\x56\xec"
SIMPLE_LENGTH: Final = 38

PORT: Final = re.compile(r"0|[1-9][0-9]{0,4}")
V4_MAPPED: Final = bytes(10) + b"\xff\xff"

# What tells a backend that we speak for ourselves: a health check, not a client.
V1_UNKNOWN: Final = b"PROXY UNKNOWN\r\n"  # of the proxy itself, as LOCAL is in v2
LOCAL: Final = SIGNATURE + bytes((LOCAL_COMMAND, UNSPECIFIED, 0, 0))

TLV = tuple[int, bytes]


class HeaderRefused(Invalid):
    """This is no header, or not one that may be believed; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a header says: for whom, and where that client had connected to.

    Both are None where the proxy speaks for itself (a health check) or does not know: the peer is the client then.
    """

    client: Address | None
    destination: Address | None


NOBODY: Final = ProxyHeader(None, None)


def read(data: bytes, protocol: Protocol) -> tuple[ProxyHeader, int] | None:
    """The header at the start of ``data``, and its length; None while more has to come to tell.

    Errors: ``HeaderRefused``.
    """
    if data.startswith(V1_BEGINS) and protocol is Protocol.TCP:
        return _read_v1(data)
    if data.startswith(SIGNATURE):
        return _read_v2(data, TRANSPORTS[protocol])
    if SIGNATURE.startswith(data) or (V1_BEGINS.startswith(data) and protocol is Protocol.TCP):
        return None
    raise HeaderRefused("it begins like no header")


def write_v1(client: Address, destination: Address) -> bytes:
    """The line that tells a backend of its client."""
    near, far = bare(client.host), bare(destination.host)
    family = 6 if ":" in near or ":" in far else 4
    if family == 6:
        near, far = (host if ":" in host else f"::ffff:{host}" for host in (near, far))
    return f"PROXY TCP{family} {near} {far} {client.port} {destination.port}\r\n".encode()


def write_v2(client: Address, destination: Address, protocol: Protocol, tlvs: Iterable[TLV] = ()) -> bytes:
    """The binary header that tells a backend of its client, and what else there is to tell."""
    near, far = packed(client.host), packed(destination.host)
    family = 0x10
    if near[:12] != V4_MAPPED or far[:12] != V4_MAPPED:
        family = 0x20
    else:
        near, far = near[12:], far[12:]
    body = near + far + struct.pack("!HH", client.port, destination.port) + _tlvs(tlvs)
    return SIGNATURE + struct.pack("!BBH", PROXY_COMMAND, family | TRANSPORTS[protocol], len(body)) + body


def write_simple(client: Address, proxy: Address) -> bytes:
    """The 38 bytes in front of each datagram; the backend sends them back in front of each answer."""
    return SIMPLE_BEGINS + packed(client.host) + packed(proxy.host) + struct.pack("!HH", client.port, proxy.port)


def tls_tlvs(version: str, server_name: str | None, has_certificate: bool) -> list[TLV]:
    """What a header tells of the TLS that ended here: the name that was asked for, version, client certificate."""
    flags = CLIENT_SSL | (CLIENT_CERTIFICATE if has_certificate else 0)
    # The number says whether a certificate of the client was verified: 0 is yes. Who shows none counts as not verified.
    verified = struct.pack("!BI", flags, 0 if has_certificate else 1)
    tls = (SSL, verified + _tlvs([(SSL_VERSION, version.encode())]))
    return [tls] if server_name is None else [(AUTHORITY, server_name.encode()), tls]


def bare(host: str) -> str:
    """An address without the scope that it has on this machine only."""
    return host.partition("%")[0]


def packed(host: str) -> bytes:
    """An address as 16 bytes; one of IPv4 as IPv6 maps it."""
    return IPv6Address(bare(host)).packed if ":" in host else V4_MAPPED + IPv4Address(host).packed


def crc32c(data: bytes) -> int:
    """The checksum of RFC 3720 §12.1 (Castagnoli)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _read_v1(data: bytes) -> tuple[ProxyHeader, int] | None:
    line, end, _ = data[:LONGEST_V1].partition(b"\r\n")
    if not end:
        if len(data) >= LONGEST_V1:
            raise HeaderRefused(f"no end of line within {LONGEST_V1} bytes")
        line = line.removesuffix(b"\r")
    if b"\r" in line or b"\n" in line:
        raise HeaderRefused("a line ends with CR LF, and has neither in it")
    if not end:
        return None
    length = len(line) + len(end)
    fields = line.decode("latin-1").split(" ")
    if fields[1] == "UNKNOWN":  # whatever follows is to be ignored
        return NOBODY, length
    if fields[1] not in ("TCP4", "TCP6") or len(fields) != 6:
        raise HeaderRefused("a line has TCP4 or TCP6, two addresses and two ports, a single space between them")
    hosts = [_host(text, fields[1]) for text in fields[2:4]]
    ports = [_port(text) for text in fields[4:6]]
    return ProxyHeader(Address(hosts[0], ports[0]), Address(hosts[1], ports[1])), length


def _host(text: str, family: str) -> str:
    try:
        if family == "TCP4":
            return str(IPv4Address(text))
        if "%" in text:
            raise HeaderRefused(f"{shown(text)} has a scope, which means nothing here")
        return _shown(IPv6Address(text))
    except ValueError:
        raise HeaderRefused(f"{shown(text)} is no address of {family}") from None


def _port(text: str) -> int:
    if PORT.fullmatch(text) is None or int(text) > 65535:
        raise HeaderRefused(f"{shown(text)} is no port")
    return int(text)


def _read_v2(data: bytes, transport: int) -> tuple[ProxyHeader, int] | None:
    if len(data) < FIXED:
        return None
    command, family, length = struct.unpack_from("!BBH", data, len(SIGNATURE))
    if command not in (LOCAL_COMMAND, PROXY_COMMAND):
        raise HeaderRefused(f"version and command {command:#04x} do not exist")
    if FIXED + length > LONGEST:
        raise HeaderRefused(f"{FIXED + length} bytes are more than {LONGEST}")
    speaks_for_itself = command == LOCAL_COMMAND or family == UNSPECIFIED
    size = 0 if speaks_for_itself else _address_length(family, transport)
    if length < size:
        raise HeaderRefused(f"{length} bytes have no room for addresses of {size}")
    end = FIXED + length
    if len(data) < end:
        return None
    if speaks_for_itself:
        return NOBODY, end
    _check_tlvs(data[:end], FIXED + size)
    return _addresses(data, family & 0xF0), end


def _address_length(family: int, transport: int) -> int:
    size = FAMILIES.get(family & 0xF0)
    if size is None or family & 0x0F != transport:
        raise HeaderRefused(f"family and transport {family:#04x} do not exist, or are not those of this port")
    return size


def _addresses(data: bytes, family: int) -> ProxyHeader:
    if family == 0x10:
        near, far, near_port, far_port = struct.unpack_from("!4s4sHH", data, FIXED)
        return ProxyHeader(Address(str(IPv4Address(near)), near_port), Address(str(IPv4Address(far)), far_port))
    if family == 0x20:
        near, far, near_port, far_port = struct.unpack_from("!16s16sHH", data, FIXED)
        return ProxyHeader(Address(_shown(IPv6Address(near)), near_port), Address(_shown(IPv6Address(far)), far_port))
    return NOBODY


def _check_tlvs(header: bytes, at: int) -> None:
    """Walk through what follows the addresses: it has to end where the header does, and its checksum to be right."""
    is_checked = False
    while at < len(header):
        if at + 3 > len(header):
            raise HeaderRefused("what follows the addresses is cut off")
        kind, length = struct.unpack_from("!BH", header, at)
        begin, at = at + 3, at + 3 + length
        if at > len(header):
            raise HeaderRefused(f"a value of {length} bytes reaches past the end of the header")
        if kind == CRC32C:
            if is_checked or length != 4:
                raise HeaderRefused("there is one checksum, of 4 bytes")
            is_checked = True
            if crc32c(header[:begin] + bytes(4) + header[at:]).to_bytes(4, "big") != header[begin:at]:
                raise HeaderRefused("the checksum is wrong")


def _shown(ip: IPv6Address) -> str:
    return str(ip.ipv4_mapped or ip)


def _tlvs(tlvs: Iterable[TLV]) -> bytes:
    return b"".join([struct.pack("!BH", kind, len(value)) + value for kind, value in tlvs])


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC: Final = tuple([_crc_of(byte) for byte in range(256)])
