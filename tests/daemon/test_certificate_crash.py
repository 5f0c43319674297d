"""A daemon that is killed at any step of an upload shows the former certificate or the new one; no key is left over."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path
from typing import Final

import pytest

from support.daemon import Serve, Unreachable
from support.needs import needs
from support.pairs import Made, make
from support.tls_services import put_tls_services

OLD: Final = make("shop.example")
NEW: Final = make("shop.example", days=200)
MOST: Final = 20  # kills of one sweep; it ends by itself long before


@pytest.mark.slow
@pytest.mark.parametrize("call", ["fsync", "fdatasync", "rename"])
def test_G03_D11_killed_at_any_step_of_an_upload_it_shows_what_it_acknowledged(
    serve: Serve, directory: Path, ports: range, call: str
) -> None:
    needs("strace")
    state = directory / "state"
    for when in range(1, MOST):
        asyncio.run(put_tls_services(state, ports, "shop"))
        daemon = serve()
        assert daemon.api("PUT", "/v1/certificates/shop", body(OLD)).status == 200
        acknowledged = killed = False
        with daemon.under_strace(f"{call}:signal=KILL:when={when}"):
            try:
                acknowledged = daemon.api("PUT", "/v1/certificates/shop", body(NEW)).status == 200
            except Unreachable:
                killed = True
                assert daemon.await_exit() == -signal.SIGKILL
            else:
                daemon.kill()
        daemon.close()
        daemon = serve()
        shown = daemon.api("GET", "/v1/certificates/shop").body["fingerprint"]
        assert shown in ({NEW.fingerprint} if acknowledged else {OLD.fingerprint, NEW.fingerprint})
        assert len(list((state / "certificates").iterdir())) == 2  # that, and the node's own
        assert daemon.api("PUT", "/v1/certificates/shop", body(NEW)).body["fingerprint"] == NEW.fingerprint
        daemon.stop()
        shutil.rmtree(state)
        if not killed:
            assert when > 1
            return
    raise AssertionError(f"still killed at {call} number {MOST}")


def body(made: Made) -> dict[str, str]:
    return {"certificate": made.chain, "key": made.key}
