"""What a daemon refuses as a backend, and what it says about itself."""

from __future__ import annotations

import re

from support.daemon import Serve
from support.waiting import eventually


def test_A18_K04_the_daemons_own_api_and_ports_are_never_backends(serve: Serve) -> None:
    daemon = serve()
    port = daemon.api.create("web").body["port"]
    found = eventually(lambda: re.search(r"http://127\.0\.0\.1:(\d+)", daemon.log), what="the log names the API")
    api = int(found[1])
    for host in ("127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1"):
        answer = daemon.api.put("web", "b", (host, api))
        assert (answer.status, answer.code) == (403, "backend_is_api")
        answer = daemon.api.put("web", "b", (host, port))
        assert (answer.status, answer.code) == (403, "backend_is_harbor")
    assert daemon.api("GET", "/v1/services/web/backends").body == []
    daemon.stop()
