"""Any bytes as a PROXY header: what must hold whatever a peer sends.

The tests feed ``check`` with what hypothesis thinks of. atheris, no dependency of the project, searches longer and
knows which code it has reached:

    python tests/fuzz/proxy_header.py -seeds=CORPUS        writes headers to begin with
    HARBOR_PURE=1 python tests/fuzz/proxy_header.py -max_total_time=600 -max_len=1200 CORPUS
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FunctionType

from harbor.model import Address, Protocol
from harbor.policy import proxy_header
from harbor.policy.proxy_header import (
    CRC32C,
    LOCAL,
    LONGEST,
    HeaderRefused,
    ProxyHeader,
    crc32c,
    read,
    tls_tlvs,
    write_v1,
    write_v2,
)

Outcome = tuple[ProxyHeader, int] | str | None


def outcome(data: bytes, protocol: Protocol) -> Outcome:
    """What reading comes to; a refusal as its words."""
    try:
        return read(data, protocol)
    except HeaderRefused as refused:
        words = refused.message
    assert words.isprintable()  # told in one harmless line
    assert len(words) < 200
    return words


def check(data: bytes) -> None:
    """Read ``data`` as both protocols would; every promise of ``read`` has to hold."""
    for protocol in (Protocol.TCP, Protocol.UDP):
        found = outcome(data, protocol)
        assert outcome(data[:LONGEST], protocol) == found  # where it stops to look
        assert found is not None or len(data) < LONGEST
        if isinstance(found, tuple):
            _check_found(data, protocol, *found)


def _check_found(data: bytes, protocol: Protocol, header: ProxyHeader, length: int) -> None:
    assert 0 < length <= min(len(data), LONGEST)
    assert outcome(data[:length], protocol) == (header, length)
    assert outcome(data[: length - 1], protocol) is None
    assert (header.client is None) == (header.destination is None)
    if header.client is not None and header.destination is not None:
        again = write_v2(header.client, header.destination, protocol)
        assert outcome(again, protocol) == (header, len(again))
        line = write_v1(header.client, header.destination)
        assert outcome(line, Protocol.TCP) == (header, len(line))


def seeds() -> list[bytes]:
    """Headers of each kind."""
    v4, v6 = Address("192.0.2.7", 50000), Address("2001:db8::7", 443)
    tls = tls_tlvs("TLSv1.3", "shop.example.com", has_certificate=True)
    found = [LOCAL, b"PROXY UNKNOWN\r\n"]
    for pair in ((v4, v4), (v6, v6), (v4, v6)):
        found.append(write_v1(*pair))
        for protocol in (Protocol.TCP, Protocol.UDP):
            found += [write_v2(*pair, protocol), write_v2(*pair, protocol, tls), with_checksum(*pair, protocol)]
    return found


def with_checksum(client: Address, destination: Address, protocol: Protocol) -> bytes:
    """A v2 header that ends with the checksum over itself."""
    blank = write_v2(client, destination, protocol, [(CRC32C, bytes(4))])
    return blank[:-4] + crc32c(blank).to_bytes(4, "big")


def main(arguments: list[str]) -> None:
    for argument in arguments[1:]:
        if argument.startswith("-seeds="):
            for number, header in enumerate(seeds()):
                Path(argument.removeprefix("-seeds="), f"seed-{number}").write_bytes(header)
            return
    import atheris  # no dependency of the project

    for function in vars(proxy_header).values():
        if isinstance(function, FunctionType):
            atheris.instrument_func(function)
    atheris.Setup(arguments, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
