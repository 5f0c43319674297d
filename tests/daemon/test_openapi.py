"""Whatever its descriptions allow may be asked of the API, and it answers as they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from support.daemon import Serve
from support.osb_platform import BROKER, PASSWORD, USER, identity
from support.waiting import eventually

SCHEMATHESIS: Final = Path(sys.executable).with_name("schemathesis")
# Not those that judge the design: that a value is refused which the schema allows, a name that is taken, say.
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
)
EXAMPLES: Final = 15  # for each operation and phase
SEED: Final = 20_170_617


@pytest.mark.slow
@pytest.mark.parametrize("description", ["/openapi.json", "/v2/openapi.json"])
def test_F11_whatever_is_asked_the_answer_is_as_described(serve: Serve, directory: Path, description: str) -> None:
    daemon = serve(BROKER, quarantine=0)
    eventually(lambda: '"node.ready"' in daemon.log, what="the daemon has logged its address")
    url = next(line["api"] for line in map(json.loads, daemon.log.splitlines()) if line["event"] == "node.ready")
    admin = (daemon.state / "admin.token").read_text().strip()
    of_a_platform = [
        "--auth", f"{USER}:{PASSWORD}",
        "--header", "X-Broker-API-Version: 2.17",
        "--header", f"X-Broker-API-Originating-Identity: {identity(user='schemathesis')}",
    ]  # fmt: skip
    of_the_admin = ["--header", f"Authorization: Bearer {admin}"]
    found = subprocess.run(
        [
            SCHEMATHESIS, "run", url + description, "--no-color", "--continue-on-failure",
            *("--checks", ",".join(CHECKS)), *("--max-examples", str(EXAMPLES)), *("--seed", str(SEED)),
            *(of_a_platform if description.startswith("/v2") else of_the_admin),
        ],
        cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout
    daemon.api.close()  # it was idle for so long that the daemon has closed it
    made = [event for event in daemon.api("GET", "/v1/events?limit=1000").body if event["kind"] == "service.created"]
    assert made  # it has met more than refusals
    daemon.stop()
