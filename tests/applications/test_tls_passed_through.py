"""openssl through a port that knows nothing of TLS: the backend's certificate reaches the client untouched."""

from __future__ import annotations

from pathlib import Path

from support.app_node import AppNode
from support.programs import Programs, output_of
from support.web import nginx


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for "localhost" and its key, made for this test."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    output_of(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2,
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert,
    )  # fmt: skip
    return cert, key


def test_s_client_trusts_what_s_server_shows_and_talks_to_it(
    node: AppNode, servers: Programs, ports: range, scratch: Path
) -> None:
    cert, key = certificate(scratch)
    servers.start(
        "openssl", "s_server", "-accept", f"127.0.0.1:{ports[0]}", "-cert", cert, "-key", key, "-rev", port=ports[0]
    )
    port = node.create("tls-bytes", ports[0])
    said = output_of(
        "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", cert, "-verify_return_error",
        "-verify_hostname", "localhost", "-ign_eof", given=b"harbor\nCLOSE\n",
    )  # fmt: skip
    assert "Verify return code: 0 (ok)" in said
    assert "robrah" in said


def test_curl_speaks_https_to_nginx(node: AppNode, servers: Programs, ports: range, scratch: Path) -> None:
    cert, key = certificate(scratch)
    nginx(servers, scratch, ports[0], tls=True, more=f"ssl_certificate {cert}; ssl_certificate_key {key};")
    (scratch / "files" / "secret").write_bytes(b"for you only")
    port = node.create("tls-web", ports[0])
    told = ("--connect-to", f"localhost:443:127.0.0.1:{port}", "--cacert", cert)
    assert output_of("curl", "--silent", "--fail", *told, "https://localhost/secret") == "for you only"
