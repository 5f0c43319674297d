"""What is allowed but likely to hurt is said, in words, and nothing else is."""

from __future__ import annotations

from harbor.config import Config, check, parse

LINUX = (32768, 60999)


def test_the_defaults_deserve_no_warning() -> None:
    assert check(Config(), local_port_range=LINUX) == []


def test_G08_a_range_among_the_ephemeral_ports_is_warned_of() -> None:
    config = parse("ports: {ranges: [20000-20999, 30000-33000, 61000]}", "f")
    [line] = check(config, local_port_range=LINUX)
    assert line.startswith("ports.ranges: 30000-33000 overlaps the kernel's ephemeral ports 32768-60999 in 32768-33000")
    assert "use ports below 32768" in line
    assert check(config) == []


def test_G08_ports_that_the_process_may_not_bind_are_warned_of() -> None:
    config = parse("ports: {ranges: [20-25, 1024-2000]}", "f")
    [line] = check(config)
    assert line.startswith("ports.ranges: 20-25 starts below 1024")
    assert "CAP_NET_BIND_SERVICE" in line
    assert check(config, lowest_port=0) == []


def test_G08_reserving_what_is_never_leased_is_warned_of() -> None:
    [line] = check(parse("ports: {reserved: [22, 30000]}", "f"))
    assert line == "ports.reserved: 22 lies outside ports.ranges, so reserving it changes nothing"


def test_G08_a_range_that_is_all_reserved_is_warned_of() -> None:
    [line] = check(parse("ports: {ranges: [30000-30001], reserved: [30001, 30000, 30000]}", "f"))
    assert line == "ports.reserved: every port of ports.ranges is reserved, so no port can be leased"


def test_K04_letting_everybody_in_is_warned_of() -> None:
    warnings = check(parse("backends: {allow: [0.0.0.0/0, 10.0.0.0/8, '::/0']}", "f"))
    assert [line.split(" ")[1] for line in warnings] == ["0.0.0.0/0", "::/0"]
