"""What each key may say, what the defaults are, and that every fault is told in words that help."""

from __future__ import annotations

import dataclasses

import pytest
from pydantic import ValidationError

from harbor.config import Api, Config, Defaults, Node, parse
from harbor.errors import ConfigInvalid
from harbor.model import Address, Policy, Removal
from harbor.model.kinds import Number, Whole
from harbor.model.policy import FIELDS


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        parse(text, "harbor.yml")
    return caught.value.problems


def test_the_defaults_are_those_of_the_contract() -> None:
    config = parse("", "harbor.yml")
    assert config == Config()
    assert config.node == Node(id="harbor_node_1", host="127.0.0.1", hostname="", ext_host="", ext_hostname="")
    assert str(config.state_dir) == "/var/lib/harbor"
    assert (config.listen.public, config.listen.private) == ("0.0.0.0", "127.0.0.1")
    assert (config.ports.spans, config.ports.reserved, config.ports.quarantine) == (((30000, 32767),), (), 60)
    assert config.api.address == Address("127.0.0.1", 7070)
    assert (config.broker, config.gateway) == (None, None)
    assert str(config.certs_dir) == "certs"
    assert [str(net) for net in config.backends.networks] == [
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",
    ]  # fmt: skip
    assert config.defaults.policy() == Policy()
    assert (config.log.level, config.log.format) == ("info", "auto")


def test_every_policy_has_a_default_in_the_configuration() -> None:
    assert list(Defaults.model_fields) == list(FIELDS)


NUMBERS = {name: policy.kind for name, policy in FIELDS.items() if isinstance(policy.kind, Number)}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_policy_has_the_bounds_of_the_model(name: str) -> None:
    low, high = NUMBERS[name].low, NUMBERS[name].high
    for value in (low, high):
        text = f"defaults: {{{name}: {value if isinstance(NUMBERS[name], Whole) else format(value, 'f')}}}"
        assert getattr(parse(text, "f").defaults.policy(), name) == value
    assert "is too high" in problems(f"defaults: {{{name}: {int(high) + 1}}}")[0]
    assert "is too low" in problems(f"defaults: {{{name}: -1}}")[0]


def test_defaults_become_a_policy() -> None:
    config = parse("defaults: {connect_timeout: 2, removal: cut, max_sessions: 7}", "f")
    expected = dataclasses.replace(Policy(), connect_timeout=2.0, removal=Removal.CUT, max_sessions=7)
    assert config.defaults.policy() == expected
    assert isinstance(config.defaults.policy().connect_timeout, float)
    assert isinstance(config.defaults.policy().removal, Removal)


# A configuration (\n starts a new line), and below it the one line that it earns.
FAULTS = r"""
nod: {}
    1:1: nod: no such key; did you mean node?
log:\n  levle: info
    2:3: log.levle: no such key; did you mean level?
xyzzy: 1
    1:1: xyzzy: no such key; there are node, state_dir, listen, ports, api, broker, gateway, certs_dir,
    backends, tls, defaults, log
log: {level: inof}
    1:14: log.level: 'inof' is none of its values; did you mean info?
log: {format: xml}
    1:15: log.format: 'xml' is none of its values; there are auto, console, json
defaults: {removal: Dran}
    1:21: defaults.removal: 'Dran' is none of its values; did you mean drain?
node: {id: a b}
    1:12: node.id: 'a b' is not a node id; use letters, digits, '.', '_' and '-', 63 at most
node: {host: localhost}
    1:14: node.host: 'localhost' is not an IP address; write one like 10.0.0.5 or fd00::5
node: {ext_host: 1.2.3}
    1:18: node.ext_host: '1.2.3' is not an IP address; write one like 10.0.0.5 or fd00::5
node: {hostname: a_b..c}
    1:18: node.hostname: 'a_b..c' is not a host name; write one like ports.example.com
node: {hostname: 7}
    1:18: node.hostname: 7 is not text; write text, in quotes if it looks like a number
node: [a]
    1:7: node: a list is not a section; its keys are id, host, hostname, ext_host, ext_hostname
listen: {public: '0.0.0.0:80'}
    1:18: listen.public: '0.0.0.0:80' is not an IP address; write one like 10.0.0.5 or fd00::5
ports: {ranges: 30000-32767}
    1:17: ports.ranges: '30000-32767' is not a list; write it like ['30000-32767']
ports: {ranges: []}
    1:17: ports.ranges: is empty; list at least one
ports:\n  ranges:\n    - 30000..32767
    3:7: ports.ranges[0]: '30000..32767' is not a range; write it like 30000-32767
ports: {ranges: [5-1]}
    1:18: ports.ranges[0]: '5-1' runs backwards; write 1-5
ports: {ranges: [0-9]}
    1:18: ports.ranges[0]: '0-9' is not a range of ports; ports go from 1 to 65535
ports: {ranges: [70000]}
    1:18: ports.ranges[0]: '70000' is not a range of ports; ports go from 1 to 65535
ports: {ranges: [{a: 1}]}
    1:18: ports.ranges[0]: this is not a range; write it like 30000-32767
ports: {ranges: [10-20, 20-30]}
    1:25: ports.ranges[1]: 20 stands in an earlier range already
ports: {ranges: [10-20, 1-99]}
    1:25: ports.ranges[1]: 10-20 stands in an earlier range already
ports: {reserved: ['x']}
    1:20: ports.reserved[0]: 'x' is not a whole number
ports: {reserved: [true]}
    1:20: ports.reserved[0]: True is not a whole number
ports: {reserved: [65536]}
    1:20: ports.reserved[0]: 65536 is too high; the highest is 65535
ports: {quarantine: -1}
    1:21: ports.quarantine: -1 is too low; the lowest is 0
ports: {quarantine: 1m}
    1:21: ports.quarantine: '1m' is not a number
defaults: {connect_timeout: 5000}
    1:29: defaults.connect_timeout: 5000 is too high; the highest is 300
defaults: {max_sessions: 1.5}
    1:26: defaults.max_sessions: 1.5 is not a whole number
backends: {allow: [10.0.0.1/8]}
    1:20: backends.allow[0]: '10.0.0.1/8' has bits set beyond its prefix; write 10.0.0.0/8
backends: {allow: [intranet]}
    1:20: backends.allow[0]: 'intranet' is not a network; write one like 10.0.0.0/8 or fc00::/7
broker: {}
    1:9: broker.password: is missing; give it a value, list credentials, or remove the section
broker: {credentials: []}
    1:9: broker.password: is missing; give it a value, list credentials, or remove the section
broker: {credentials: [{username: a}]}
    1:24: broker.credentials[0].password: is missing; give it a value, or remove the section
broker: {username: "a:b", password: c}
    1:20: broker.username: 'a:b' holds a ':', which ends the user name in HTTP basic authentication
broker: {password: c, quotas: [{ports: 1}]}
    1:32: broker.quotas[0]: is that of an organization or of a space; name one of them, or * for each of them
broker: {password: c, quotas: [{space: a}]}
    1:32: broker.quotas[0]: limits nothing; give it ports, sessions or both
broker: {password: c, quotas: [{space: a, ports: 1}, {space: a, sessions: 1}]}
    1:54: broker.quotas[1]: an earlier entry is for the same; put both limits into one
broker: {password: c, quotas: [{space: a, ports: many}]}
    1:50: broker.quotas[0].ports: 'many' is not a whole number
gateway: {token: ''}
    1:18: gateway.token: is empty
gateway: {token: 'a b'}
    1:18: gateway.token: cannot be sent in a header; use letters, digits and signs, without spaces
gateway: {token: x, cloud_controller: api.example.com}
    1:39: gateway.cloud_controller: 'api.example.com' is not the beginning of a URL; write one like
    https://api.example.com
gateway: {token: x, url: 'http://me:hush@h'}
    1:26: gateway.url: has a user or password in it; leave them out
gateway: {token: x, interval: 0}
    1:31: gateway.interval: 0 is too low; the lowest is 1
state_dir: ''
    1:12: state_dir: is empty; write a path like /var/lib/harbor
api: {cert: a.crt}
    1:13: api.cert: needs key beside it: one without the other cannot serve TLS
api: {key: a.key}
    1:12: api.key: needs cert beside it: one without the other cannot serve TLS
api: {listen: ':7070'}
    1:15: api.listen: ':7070' names no address; write 127.0.0.1:7070 for this machine only, 0.0.0.0:7070 for all
api: {listen: 7070}
    1:15: api.listen: 7070 is not text; write text, in quotes if it looks like a number
api: {listen: 127.0.0.1}
    1:15: api.listen: '127.0.0.1' has no port; write it like 127.0.0.1:7070
api: {listen: 'localhost:80'}
    1:15: api.listen: 'localhost' is not an IP address; write the address like 127.0.0.1:80
api: {listen: '127.0.0.1:65536'}
    1:15: api.listen: 65536 is not a port; ports go up to 65535
api: {listen: '::1:7070'}
    1:15: api.listen: write it like [::1]:7070
api: {listen: '[127.0.0.1]:7070'}
    1:15: api.listen: write it like 127.0.0.1:7070
"""


def cases() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in FAULTS.strip().splitlines():
        if line.startswith(" "):
            text, expected = found.pop()
            found.append((text, f"{expected} {line.strip()}".strip()))
        else:
            found.append((line.replace("\\n", "\n"), ""))
    return found


@pytest.mark.parametrize(("text", "line"), cases())
def test_a_fault_is_told_with_its_place_and_what_would_work(text: str, line: str) -> None:
    assert problems(text) == [f"harbor.yml:{line}"]


def test_I01_all_faults_are_told_at_once_in_the_order_of_the_file() -> None:
    text = "node: {id: 'a b', id: c}\nlog: {level: loud, size: 3}\nports:\n  ranges: [9-8, x]\nnodes: 1\n"
    assert [line.split(" ")[0] for line in problems(text)] == [
        "harbor.yml:1:12:", "harbor.yml:1:19:", "harbor.yml:2:14:", "harbor.yml:2:20:",
        "harbor.yml:4:12:", "harbor.yml:4:17:", "harbor.yml:5:1:",
    ]  # fmt: skip


def test_a_thousand_faults_are_cut_short() -> None:
    lines = problems("\n".join(f"key{n}: 1" for n in range(1000)))
    assert len(lines) == 51
    assert lines[-1] == "harbor.yml: and 950 more"


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.5", "[::]", "[2001:db8::1]", "[::ffff:10.0.0.5]"])
def test_K01_the_api_leaves_loopback_only_with_tls(host: str) -> None:
    [line] = problems(f"api:\n  listen: '{host}:7070'")
    assert line.startswith("harbor.yml:2:11: api.listen: ")
    assert "set api.cert and api.key, or listen on 127.0.0.1:7070" in line
    with_tls = parse(f"api: {{listen: '{host}:7070', cert: a.crt, key: a.key}}", "f")
    assert with_tls.api.address.port == 7070
    with pytest.raises(ValidationError):
        Api(listen=f"{host}:7070")


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("127.0.0.1:7070", Address("127.0.0.1", 7070)),
        ("127.9.9.9:0", Address("127.9.9.9", 0)),
        ("[::1]:7070", Address("::1", 7070)),
        ("[0:0:0:0:0:0:0:1]:70", Address("::1", 70)),
        ("[::ffff:127.0.0.1]:7070", Address("::ffff:127.0.0.1", 7070)),
    ],
)
def test_K01_the_api_may_listen_on_any_loopback_address(written: str, address: Address) -> None:
    config = parse(f"api: {{listen: '{written}'}}", "f")
    assert config.api.address.port == address.port
    assert config.api.listen == str(config.api.address)
    assert config.api.address.host in {address.host, "::ffff:7f00:1"}


def test_G08_the_api_port_is_never_leased() -> None:
    [line] = problems("api:\n  listen: 127.0.0.1:30500")
    assert line.startswith("harbor.yml:2:11: api.listen: port 30500 lies inside ports.ranges")
    assert "add 30500 to ports.reserved" in line
    config = parse("api: {listen: '127.0.0.1:30500'}\nports: {reserved: [30500]}", "f")
    assert config.ports.reserved == (30500,)


def test_ranges_may_be_single_ports_and_numbers() -> None:
    config = parse("ports: {ranges: [30000-30009, 40000, '50000', '50002 - 50003']}", "f")
    assert config.ports.ranges == ("30000-30009", "40000", "50000", "50002-50003")
    assert config.ports.spans == ((30000, 30009), (40000, 40000), (50000, 50000), (50002, 50003))


def test_addresses_and_networks_have_one_spelling() -> None:
    config = parse("listen: {public: '0:0::0'}\nbackends: {allow: [10.0.0.7, 'FC00:0::/7']}", "f")
    assert config.listen.public == "::"
    assert config.backends.allow == ("10.0.0.7/32", "fc00::/7")


def test_a_section_of_comments_is_off() -> None:
    config = parse("broker:\n#  password: x\ngateway:\nnode:\n", "f")
    assert config == Config()


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("", ""),
        ("http://10.0.0.5", "http://10.0.0.5"),
        ("https://api.example.com:8443/cc/", "https://api.example.com:8443/cc"),
        ("http://[fd00::1]:80//", "http://[fd00::1]:80"),
    ],
)
def test_a_url_is_a_beginning(written: str, url: str) -> None:
    config = parse(f"gateway: {{token: x, cloud_controller: '{written}'}}", "f")
    assert config.gateway is not None
    assert config.gateway.cloud_controller == url


@pytest.mark.parametrize(
    "wrong",
    [
        "h",
        "//h",
        "ftp://h",
        "http://",
        "http://:80",
        "http://h:0",
        "http://h:x",
        "http://h?a",
        "http://a b",
        "http://[::",
    ],
)
def test_what_is_no_url_is_refused(wrong: str) -> None:
    [line] = problems(f'gateway: {{token: x, cloud_controller: "{wrong}"}}')
    assert "is not the beginning of a URL" in line


def test_K11_secrets_show_nowhere() -> None:
    config = parse("broker: {password: hush-1}\ngateway: {token: hush-2}", "f")
    assert config.broker is not None
    assert config.broker.username == "broker"
    assert config.broker.accepted == (("broker", "hush-1"),)
    for shown in (repr(config), str(config), config.model_dump_json(), str(config.model_dump())):
        assert "hush" not in shown


def test_several_credentials_are_accepted_side_by_side() -> None:
    config = parse("broker: {password: old, credentials: [{password: new}, {username: b, password: c}]}", "f")
    assert config.broker is not None
    assert config.broker.accepted == (("broker", "old"), ("broker", "new"), ("b", "c"))
    config = parse("broker: {credentials: [{password: new}]}", "f")
    assert config.broker is not None
    assert config.broker.accepted == (("broker", "new"),)


@pytest.mark.parametrize(
    "wrong",
    [
        "{password: 123454321}",
        "{password: [hush]}",
        "{password: hush, pasword: hush}",
        "{credentials: [{password: 123454321}]}",
    ],
)
def test_K11_a_wrong_secret_is_not_repeated(wrong: str) -> None:
    [line] = problems(f"broker: {wrong}")
    assert "hush" not in line
    assert "123454321" not in line


def test_K10_a_hostile_key_forges_no_line() -> None:
    [line] = problems('"a\\nharbor.yml:1:1: node: fine\\e[2J": 1')
    assert "\n" not in line
    assert "\x1b" not in line


def test_a_configuration_never_changes() -> None:
    with pytest.raises(ValidationError):
        Config().node.id = "other"  # type: ignore[misc]
