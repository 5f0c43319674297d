"""Certificates in a real daemon: no key in what it says or writes, but for the private file."""

from __future__ import annotations

import stat
from pathlib import Path

from support.daemon import Serve
from support.pairs import make


def test_D19_no_key_is_in_the_log_the_answers_or_in_any_file_but_its_own(serve: Serve, directory: Path) -> None:
    daemon = serve("log: {level: debug}")
    good, expired, torn = make("web.example"), make("web.example", days=-1), make("web.example")
    assert daemon.api("POST", "/v1/services", {"name": "web-https"}).status == 201
    bodies = [
        {"certificate": good.chain, "key": good.key},
        {"certificate": expired.chain, "key": expired.key},
        {"certificate": torn.chain, "key": torn.key[:-60]},
        {"certificate": good.chain, "key": torn.key},
        {"certificate": torn.key, "key": torn.key},
    ]
    answers = [daemon.api("PUT", "/v1/certificates/web-https", body) for body in bodies]
    assert [answer.status for answer in answers] == [200, 400, 400, 400, 400]
    said = daemon.log + "".join(str(answer.body) for answer in answers)
    for path in ("/v1/events?limit=1000", "/v1/certificates", "/v1/services", "/v1/node"):
        said += str(daemon.api("GET", path).body)
    daemon.stop()
    said += daemon.log
    assert "certificate.refused" in said
    secrets = [made.key.splitlines()[2] for made in (good, expired, torn)]
    assert not any(secret in said for secret in secrets)
    files = [file for file in directory.rglob("*") if file.is_file()]
    holding = [file for file in files if any(secret.encode() in file.read_bytes() for secret in secrets)]
    assert [file.parent.name for file in holding] == ["certificates"]
    assert stat.S_IMODE(holding[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(holding[0].parent.stat().st_mode) == 0o700
