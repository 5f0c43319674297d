"""``stackato.yml``: what is understood, and how what is not is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harbor.client import Place
from harbor.errors import ConfigInvalid, HarborError
from harbor.runner.stackato import Declared, Wanted, parse, read
from harbor.runner.wish import Asked, folder_name, wish


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        parse(text, "stackato.yml")
    return caught.value.problems


def test_the_file_of_the_first_harbor_s_manual() -> None:
    declared = parse(
        "name: port-test\nframework:\n  type: node\nmem: 64\nservices:\n  my-port: harbor\n", "stackato.yml"
    )
    assert declared == Declared("port-test", services=(Wanted("my-port"),))


def test_the_app_s_name_is_put_into_those_of_services() -> None:
    text = "name: shop\nservices:\n  udp-${name}: harbor\n  tcp-${name}: {type: harbor, plan: tcp}\n"
    assert parse(text, "x").services == (Wanted("udp-shop"), Wanted("tcp-shop", "tcp"))
    assert parse(text, "x", app="other").services[0] == Wanted("udp-other")
    assert parse("services: \n  a-${name}: harbor", "x", folder="here").services == (Wanted("a-here"),)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("processes: {web: node app.js}", ("node", "app.js")),
        ("processes:\n  web: node app.js --port $PORT\n", ("node", "app.js", "--port", "$PORT")),
        ("processes: {web: [node, app.js, 8]}", ("node", "app.js", "8")),
        ("command: node app.js", ("node", "app.js")),
        ("command: old\nprocesses: {web: new}", ("new",)),
        ("processes: {web: ~}\n", ()),
        ("name: a\ncommand: ./${name} ${PORT}", ("./a", "${PORT}")),
        ("", ()),
    ],
)
def test_the_command(text: str, command: tuple[str, ...]) -> None:
    assert parse(text, "x").command == command


def test_variables_and_instances() -> None:
    declared = parse(
        "name: a\ninstances: 3\nenv:\n  LEVEL: debug\n  N: 5\n  ON: true\n  WHO: app ${name}\n"
        "  OLD: {default: text, hidden: true}\n  ASKED: {required: true}\n",
        "x",
    )
    assert declared.instances == 3
    assert declared.env == {"LEVEL": "debug", "N": "5", "ON": "true", "WHO": "app a", "OLD": "text"}


def test_what_no_harbor_node_provides_is_told_of_and_left_out() -> None:
    declared = parse("services:\n  a: harbor\n  db: mysql\n  cache: {type: redis, plan: x}\n", "x")
    assert declared.services == (Wanted("a"),)
    assert declared.others == ("db: mysql", "cache: redis")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("services:\n  my port: harbor\n", "stackato.yml:2:3: services.my port: service name 'my port' is not valid"),
        ("services:\n  udp-${name}: harbor\n", "stackato.yml:2:3: services.udp-${name}: ${name} has no value: the app"),
        ("name: a\nservices:\n  x-${nam}: harbor\n", "stackato.yml:3:3: services.x-${nam}: ${nam} has no value"),
        ("services:\n  a: 5\n", "stackato.yml:2:3: services.a: 'a' needs a type; write: a: harbor"),
        ("services:\n  a: {plan: tcp}\n", "stackato.yml:2:3: services.a: 'a' needs a type"),
        ("services:\n  a: {type: harbor, plan: tcpp}\n", "stackato.yml:2:27: services.a.plan: there is no plan 'tcpp'"),
        ("services:\n  a: {type: harbor, port: 5}\n", "stackato.yml:2:27: services.a.port: there is no 'port'"),
        ("services: [a, b]\n", "stackato.yml:1:11: services: ['a', 'b'] is no section"),
        ("name: ../../etc\n", "stackato.yml:1:7: name: app name '../../etc' is not valid"),
        ("instances: many\n", "stackato.yml:1:12: instances: 'many' is no number of instances; use 1 to 100"),
        ("instances: 101\n", "stackato.yml:1:12: instances: 101 is no number"),
        ("instances: true\n", "stackato.yml:1:12: instances: True is no number"),
        ("env: {BAD NAME: x}\n", "stackato.yml:1:7: env.BAD NAME: 'BAD NAME' is no name for a variable"),
        ("env: {'A=B': x}\n", "env.A=B: 'A=B' is no name for a variable"),
        ("env: {A: [x]}\n", "stackato.yml:1:7: env.A: ['x'] is no text"),
        ('env: {A: "a\\0b"}\n', "env.A: 'a\\x00b' is no text"),
        ("env: text\n", "stackato.yml:1:6: env: 'text' is no section"),
        ("processes:\n  web: a && b\n", "stackato.yml:2:8: processes.web: & is for a shell, and none is involved"),
        ("command: say 'hello\n", "stackato.yml:1:10: command: a quote is opened and never closed"),
        ("processes: {web: [a, [b]]}\n", "stackato.yml:1:22: processes.web.1: ['b'] is no text"),
        ("name: a\nname: b\n", "stackato.yml:2:1: 'name' stands here a second time"),
        ("a: b\n  c: d\n", "stackato.yml:2:4: a ':' is not allowed here"),
        ("- a\n", "stackato.yml:1:1: the file must be a mapping"),
    ],
)  # fmt: skip
def test_each_fault_is_told_with_line_and_column(text: str, problem: str) -> None:
    assert any(problem in line for line in problems(text)), problems(text)


def test_all_faults_are_told_at_once() -> None:
    assert len(problems("name: a b\ninstances: 0\nenv: {A: [1]}\nservices: {a b: harbor}\n")) == 4


@pytest.mark.parametrize(
    "bomb",
    [
        "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n",
        "env: !!python/object/apply:os.system ['true']\n",
        "<<: {name: a}\n",
        "a: " + "[" * 100,
        "services:\n" + "".join(f"  s{n}: harbor\n" for n in range(10_000)),
        "env: {A: '" + "x" * (1 << 20) + "'}\n",
    ],
)
def test_F09_tags_aliases_and_bombs_are_refused(bomb: str) -> None:
    assert problems(bomb)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    found: list[str] = []
    try:
        parse(text, "stackato.yml", folder="here")
    except ConfigInvalid as error:
        found = error.problems
    assert all(line.startswith("stackato.yml:") for line in found)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    assert read(tmp_path / "stackato.yml", None, None) is None
    (tmp_path / "stackato.yml").write_bytes(b"name: \xff\n")
    with pytest.raises(ConfigInvalid, match="is not UTF-8"):
        read(tmp_path / "stackato.yml", None, None)
    with pytest.raises(ConfigInvalid, match="cannot be read: Is a directory"):
        read(tmp_path, None, None)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_folder(tmp_path: Path) -> None:
    asked = Asked(Place("http://x"), tmp_path / "my site", ("run",), ("web",))
    asked.folder.mkdir()
    assert wish(asked).app == "my-site"
    (asked.folder / "stackato.yml").write_text(
        "name: shop\ninstances: 2\ncommand: old\nservices:\n  a-${name}: harbor\n  web: {type: harbor, plan: tcp}\n"
    )
    found = wish(asked)
    assert (found.app, found.command, found.instances) == ("shop", ("run",), 2)
    assert found.services == (Wanted("web", "tcp"), Wanted("a-shop"))
    found = wish(Asked(Place("http://x"), asked.folder, app="other", instances=5))
    assert (found.app, found.command, found.instances) == ("other", ("old",), 5)
    assert found.services[0] == Wanted("a-other")


@pytest.mark.parametrize(
    ("folder", "name"), [("/srv/my site", "my-site"), ("/srv/.hidden", "hidden"), ("/x/ä", None), ("/", None)]
)
def test_the_folder_names_the_app_if_it_can(folder: str, name: str | None) -> None:
    if name is None:
        with pytest.raises(HarborError, match="give one with --app NAME"):
            folder_name(Path(folder))
    else:
        assert folder_name(Path(folder)) == name


def test_without_any_command_it_says_where_one_could_stand(tmp_path: Path) -> None:
    with pytest.raises(HarborError, match=r"there is no command: say what to run, like: harbor run --service web"):
        wish(Asked(Place("http://x"), tmp_path))
