from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from harbor.api.tokens import MOST_SOURCES, MOST_WRONG, WINDOW, AdminToken, WrongTokens
from harbor.errors import StateUnusable


def test_K14_the_token_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        token = AdminToken.load_or_create(tmp_path)
    finally:
        os.umask(before)
    file = tmp_path / "admin.token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["admin.token"]
    text = file.read_bytes().strip()
    assert len(text) >= 43
    assert token.matches(text)
    assert AdminToken.load_or_create(tmp_path).matches(text)
    assert not token.matches(text[:-1])
    assert not token.matches(b"")


def test_two_nodes_do_not_share_a_token(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    AdminToken.load_or_create(tmp_path)
    other = AdminToken.load_or_create(tmp_path / "other")
    assert not other.matches((tmp_path / "admin.token").read_bytes().strip())


def test_K11_the_token_does_not_show_itself(tmp_path: Path) -> None:
    token = AdminToken.load_or_create(tmp_path)
    secret = (tmp_path / "admin.token").read_text().strip()
    assert secret not in f"{token} {token!r}"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o602])
def test_K14_a_token_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    AdminToken.load_or_create(tmp_path)
    (tmp_path / "admin.token").chmod(mode)
    with pytest.raises(StateUnusable, match="chmod 600"):
        AdminToken.load_or_create(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n", b"short\n"])
def test_a_file_that_is_no_token_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "admin.token"
    file.touch(0o600)
    file.write_bytes(content)
    with pytest.raises(StateUnusable, match="not a token"):
        AdminToken.load_or_create(tmp_path)
    assert file.read_bytes() == content


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"x" * 50)
    (tmp_path / "admin.token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateUnusable):
        AdminToken.load_or_create(tmp_path)


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable, match="No such file"):
        AdminToken.load_or_create(tmp_path / "missing")


def test_K02_a_source_waits_until_its_window_is_over() -> None:
    wrong = WrongTokens()
    for second in range(MOST_WRONG):
        assert wrong.wait("192.0.2.1", float(second)) == 0
        wrong.add("192.0.2.1", float(second))
    assert wrong.wait("192.0.2.1", 10.0) == WINDOW - 10
    assert wrong.wait("192.0.2.2", 10.0) == 0
    assert wrong.wait("192.0.2.1", WINDOW) == 0
    wrong.add("192.0.2.1", WINDOW)
    assert wrong.wait("192.0.2.1", WINDOW) == 0


def test_K02_neighbours_of_one_ipv6_network_count_together() -> None:
    wrong = WrongTokens()
    for number in range(MOST_WRONG):
        wrong.add(f"2001:db8::{number:x}", 0.0)
    assert wrong.wait("2001:db8::ffff", 0.0) > 0
    assert wrong.wait("2001:db8:0:1::1", 0.0) == 0
    assert wrong.wait("fe80::1%eth0", 0.0) == 0


def test_K02_ipv4_addresses_on_a_dual_stack_socket_count_apart() -> None:
    wrong = WrongTokens()
    for _ in range(MOST_WRONG):
        wrong.add("::ffff:192.0.2.1", 0.0)
    assert wrong.wait("::ffff:192.0.2.1", 0.0) > 0
    assert wrong.wait("::ffff:192.0.2.2", 0.0) == 0


def test_K02_the_table_of_sources_is_bounded() -> None:
    wrong = WrongTokens()
    for number in range(MOST_SOURCES + 500):
        wrong.add(f"10.0.{number >> 8}.{number & 255}", 0.0)
    assert len(wrong._windows) == MOST_SOURCES
