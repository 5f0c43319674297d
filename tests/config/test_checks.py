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


def test_K11_a_token_that_would_cross_the_network_in_the_clear_is_warned_of() -> None:
    gateway = "gateway: {token: x, url: 'http://10.0.0.5', cloud_controller: '%s'}"
    [line] = check(parse(gateway % "http://10.0.0.7", "f"))
    assert "gateway.token crosses the network in the clear" in line
    for harmless in ("https://10.0.0.7", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:80"):
        assert check(parse(gateway % harmless, "f")) == []


def test_a_gateway_that_its_cloud_controller_cannot_reach_is_warned_of() -> None:
    elsewhere = "gateway: {token: x, cloud_controller: 'https://cc.example'"
    tls = "api: {listen: '0.0.0.0:7070', cert: a, key: b}"
    for unreachable in (f"{elsewhere}}}", f"{elsewhere}, url: 'https://localhost:7070'}}\n{tls}"):
        [line] = check(parse(unreachable, "f"))
        assert line.startswith("gateway.url: a cloud controller on another machine cannot reach this gateway")
    for reachable in (f"{elsewhere}}}\n{tls}", f"{elsewhere}, url: 'https://10.0.0.5'}}"):
        assert check(parse(reachable, "f")) == []
