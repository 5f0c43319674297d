"""openssl and curl through ports that end no TLS, one service's own and one that is shared: the backend's certificate
reaches the client untouched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from support.app_node import AppNode
from support.programs import Programs, output_of
from support.web import nginx

UNRECOGNIZED_NAME: Final = 35  # curl's exit code for a handshake that failed


def certificate(directory: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A certificate for this name and its key, made for this test."""
    cert, key = directory / f"{name}.pem", directory / f"{name}.key"
    output_of(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2,
        "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", cert,
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


def test_on_a_shared_port_openssl_and_curl_get_the_server_that_they_name(
    node: AppNode, servers: Programs, ports: range, scratch: Path
) -> None:
    shared = None
    for name, at in zip(("shop.test", "blog.test"), ports, strict=False):
        cert, key = certificate(scratch, name)
        (scratch / name).write_text(f"the site of {name}")
        servers.start(
            "openssl", "s_server", "-quiet", "-WWW", "-accept", f"127.0.0.1:{at}", "-cert", cert, "-key", key,
            port=at,
        )  # fmt: skip
        wish = {} if shared is None else {"port": shared}
        shared = node.create(f"shared-{name}", at, tls="passthrough", server_names=[name], **wish)
    for name in ("shop.test", "blog.test"):
        told = ("--silent", "--connect-to", f"::127.0.0.1:{shared}", "--cacert", scratch / f"{name}.pem")
        assert output_of("curl", *told, f"https://{name}/{name}") == f"the site of {name}"
        said = output_of(
            "openssl", "s_client", "-connect", f"127.0.0.1:{shared}", "-servername", name, "-CAfile",
            scratch / f"{name}.pem", "-verify_return_error", "-verify_hostname", name, given=b"",
        )  # fmt: skip
        assert "Verify return code: 0 (ok)" in said
    told = ("--silent", "--show-error", "--connect-to", f"::127.0.0.1:{shared}")
    assert output_of("curl", *told, "https://other.test/", fails=(UNRECOGNIZED_NAME,)) == ""
