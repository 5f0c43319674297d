"""What a node notices about itself: that its loop is late."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import structlog

from harbor.node.watch import EVERY, LATE, Watch
from support.running_node import RunningNode
from support.waiting import eventually


@pytest.fixture
def log() -> Iterator[list[dict[str, object]]]:
    with structlog.testing.capture_logs() as lines:
        yield lines  # type: ignore[misc]


def test_J12_a_loop_that_is_held_up_is_measured_told_and_warned_of(
    node: RunningNode, log: list[dict[str, object]]
) -> None:
    watch: Watch = node.node._watch
    held_up = EVERY + 2 * LATE  # longer than from one look to the next, so one is late
    node.call(lambda: time.sleep(held_up))
    eventually(lambda: node.call(lambda: watch.largest) >= LATE, what="the lag is seen")
    lag = node.call(node.node.describe)["loop_lag"]
    assert LATE <= lag["largest"] <= node.call(node.node.strain)["harbor_event_loop_lag_seconds"] + 1e-6
    (warning,) = node.call(node.node.remarks)
    assert "late" in warning
    assert warning in node.call(node.node.warnings)
    (line,) = [line for line in log if line["event"] == "node.late"]
    assert line["log_level"] == "warning"
