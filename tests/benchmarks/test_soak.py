"""A short run of the long one: `make soak` is a million sessions."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.soak import State, grown


def test_J11_sessions_with_random_faults_leave_nothing_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "1000", "7"], capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'flow'" in done.stdout
    assert "'ConnectionResetError'" in done.stdout


@pytest.mark.parametrize("what", ["descriptors", "sessions", "used", "threads", "tasks", "timers"])
def test_J11_one_more_of_anything_is_told(what: str) -> None:
    before = State(descriptors=20, memory=1, sessions=0, used=0, threads=5, tasks=3, timers=4)
    after = State(**{**vars(before), what: getattr(before, what) + 1})
    assert grown(before, before) == []
    assert grown(after, before) == [f"{what}: {getattr(after, what)} instead of {getattr(before, what)}"]
