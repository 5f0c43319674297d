"""Files of certificates: what is read, what is left alone, and that nothing leads elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harbor.certificates import listing, read_in
from harbor.certificates.files import write_private
from harbor.errors import Invalid


def refusal(directory: Path, name: str, secret: bool = False) -> str:
    with pytest.raises(Invalid) as refused:
        read_in(directory, name, secret=secret)
    assert refused.value.code == "file_unfit"
    return refused.value.message


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_private(tmp_path, "a.pem", b"one")
    write_private(tmp_path, "a.pem", b"two")
    assert read_in(tmp_path, "a.pem", secret=True) == b"two"
    assert [file.name for file in tmp_path.iterdir()] == ["a.pem"]


@pytest.mark.parametrize("name", ["../x.crt", "a/../../x.crt", "..", ".", "", "a\0.crt", "/etc/passwd"])
def test_K06_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.crt").write_text("not for you")
    (tmp_path / "inner").mkdir()
    assert "no plain file name" in refusal(tmp_path / "inner", name)


def test_D12_links_pipes_and_directories_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "link.crt").symlink_to(tmp_path / "outside")
    os.mkfifo(inner / "pipe.crt")
    (inner / "folder.crt").mkdir()
    (inner / "device.crt").symlink_to("/dev/zero")
    assert "symbolic link" in refusal(inner, "link.crt")
    assert "symbolic link" in refusal(inner, "device.crt")
    assert "no regular file" in refusal(inner, "pipe.crt")  # and it does not wait for a writer
    assert "no regular file" in refusal(inner, "folder.crt")
    assert "there is no" in refusal(inner, "missing.crt")


def test_D12_a_file_of_ten_megabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.crt").open("wb") as file:
        file.truncate(10_000_000)
    assert "more than 64 KiB" in refusal(tmp_path, "large.crt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_D12_an_unreadable_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.crt").touch(0o000)
    assert "cannot be read by the user that runs Harbor" in refusal(tmp_path, "a.crt")


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o640])
def test_D19_a_key_that_others_can_get_at_is_refused(tmp_path: Path, mode: int) -> None:
    key = tmp_path / "a.key"
    key.write_text("key")
    key.chmod(mode)
    assert "chmod 600" in refusal(tmp_path, "a.key", secret=True)
    assert read_in(tmp_path, "a.key") == b"key"
    key.chmod(0o400)
    assert read_in(tmp_path, "a.key", secret=True) == b"key"


def test_a_changed_file_has_another_mark(tmp_path: Path) -> None:
    assert listing(tmp_path / "missing") is None
    assert listing(tmp_path) == {}
    (tmp_path / "a.crt").write_text("one")
    (tmp_path / "dangling").symlink_to("nowhere")
    before = listing(tmp_path)
    assert before is not None
    assert set(before) == {"a.crt", "dangling"}
    write_private(tmp_path, "a.crt", b"one")
    after = listing(tmp_path)
    assert after is not None
    assert after["a.crt"] != before["a.crt"]
