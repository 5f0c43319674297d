"""Which file configures the node, and what happens when it cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from harbor.config import Config, find, load
from harbor.errors import ConfigInvalid
from support.needs import lacking


def write(path: Path, node_id: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"node: {{id: {node_id}}}\n")
    return path


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problem(path: Path) -> str:
    with pytest.raises(ConfigInvalid) as caught:
        load(path, {})
    [line] = caught.value.problems
    return line


def test_a_named_file_goes_first(checkout: Path) -> None:
    named, in_environ = write(checkout / "named.yml", "a"), write(checkout / "environ.yml", "b")
    write(checkout / "config" / "harbor.yml", "c")
    environ = {"HARBOR_CONFIG": str(in_environ)}
    assert load(named, environ).node.id == "a"
    assert load(None, environ).node.id == "b"
    assert load(None, {}).node.id == "c"
    assert find(None, {"HARBOR_CONFIG": ""}) == Path("config/harbor.yml")


def test_without_a_file_the_defaults_apply(checkout: Path) -> None:
    if Path("/etc/harbor/harbor.yml").exists():
        lacking("a machine without /etc/harbor/harbor.yml")
    assert find(None, {}) is None
    assert load(None, {}) == Config()


def test_I01_a_named_file_must_exist(checkout: Path) -> None:
    assert problem(Path("gone.yml")) == "gone.yml: there is no such file"
    with pytest.raises(ConfigInvalid, match=r"^environ\.yml: there is no such file$"):
        load(None, {"HARBOR_CONFIG": "environ.yml"})


def test_I01_what_cannot_be_read_is_told(checkout: Path) -> None:
    assert problem(checkout) == f"{checkout}: cannot be read: Is a directory"
    (checkout / "latin1.yml").write_bytes(b"node: {id: caf\xe9}")
    assert problem(Path("latin1.yml")) == "latin1.yml: is not UTF-8 text (byte 15)"


def test_F09_an_endless_file_is_not_read_to_its_end(checkout: Path) -> None:
    Path("endless.yml").symlink_to("/dev/zero")
    assert problem(Path("endless.yml")) == "endless.yml:1:1: the file is larger than 1 MiB"


def test_a_byte_order_mark_is_no_fault(checkout: Path) -> None:
    Path("bom.yml").write_bytes(b"\xef\xbb\xbfnode: {id: a}\n")
    assert load(Path("bom.yml"), {}).node.id == "a"


def test_faults_name_the_file_as_it_was_named(checkout: Path) -> None:
    write(Path("config/harbor.yml"), "'a b'")
    with pytest.raises(ConfigInvalid, match=r"^config/harbor\.yml:1:12: node\.id: 'a b' is not a node id"):
        load(None, {})
