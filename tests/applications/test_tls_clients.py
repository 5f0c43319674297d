"""Clients of every kind speak HTTPS with an app behind a node, and none of them trusts it without a reason."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path

import pytest

from support.https_site import NAME, Site
from support.programs import output_of

ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
HELLO = "Hello from gunicorn"
NOT_TRUSTED = 60  # curl's exit code
VERSIONS = pytest.mark.parametrize("version", ["1.2", "1.3"])


@VERSIONS
def test_openssl_resumes_its_session_also_after_another_certificate_is_shown(
    site: Site, scratch: Path, version: str
) -> None:
    def ask(*more: str | Path) -> str:
        return output_of(
            "openssl", "s_client", "-connect", f"{NAME}:{site.port}", f"-tls{version.replace('.', '_')}",
            "-CAfile", site.ca, "-verify_return_error", "-verify_hostname", NAME, "-ign_eof", *more, given=ASK,
        )  # fmt: skip

    first = ask("-sess_out", scratch / "session")
    assert HELLO in first
    assert "Verify return code: 0 (ok)" in first
    assert f"New, TLSv{version}" in first
    site.renew()
    again = ask("-sess_in", scratch / "session")
    assert HELLO in again
    assert f"Reused, TLSv{version}" in again


@VERSIONS
def test_gnutls_is_answered_and_resumes_its_session(site: Site, version: str) -> None:
    said = output_of(
        "gnutls-cli", "--x509cafile", site.ca, "--port", site.port, "--resume", "--waitresumption",
        "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}", NAME, given=ASK,
    )  # fmt: skip
    assert "The certificate is trusted" in said
    assert f"(TLS{version}" in said
    assert "This is a resumed session" in said
    assert HELLO in said


@VERSIONS
def test_curl_keeps_its_connection_and_refuses_other_names(site: Site, version: str) -> None:
    told = ("--silent", "--cacert", site.ca, f"--tlsv{version}", "--tls-max", version)
    shown = ("-o", "/dev/null", "-w", "%{http_code} %{ssl_verify_result} %{num_connects}\n")
    assert output_of("curl", *told, *shown[2:], *[site.url] * 2, *shown[:2] * 2).split() == [
        "200",
        "0",
        "1",
        "200",
        "0",
        "0",
    ]
    other = f"other.test:{site.port}"
    assert output_of("curl", *told, "--resolve", f"{other}:127.0.0.1", f"https://{other}/", fails=(NOT_TRUSTED,)) == ""
    assert output_of("curl", "--silent", site.url, fails=(NOT_TRUSTED,)) == ""


def test_the_standard_library_of_Python_is_answered_on_one_connection(site: Site) -> None:
    context = ssl.create_default_context(cafile=str(site.ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    client = http.client.HTTPSConnection(NAME, site.port, context=context, timeout=20)
    client.connect()
    client.auto_open = False
    for _ in range(3):
        client.request("GET", "/")
        assert HELLO in client.getresponse().read().decode()
    assert client.sock.version() == "TLSv1.3"
    client.close()
