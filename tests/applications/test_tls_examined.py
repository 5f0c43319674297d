"""sslyze and testssl.sh look for what is wrong with the TLS of a node, and find nothing above "low".

What is left out is the certificate's or a matter of taste, and each is named here with its reason.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from support.https_site import NAME, Site
from support.programs import output_of

SLOW: Final = 110.0  # seconds; testssl.sh is a shell script of 20,000 lines, and needs ten of them on an idle machine
ODDITIES: Final = range(50)  # its exit codes that count checks with an oddity, be it one it rates as good
GRAVE: Final = {"MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL"}
ACCEPTED: Final = {
    # Mozilla's intermediate profile leaves the choice to the client: all six suites are good, and it knows which its
    # hardware does best. Later releases of testssl.sh rate this "low".
    "cipher_order": "NOT a cipher order configured",
    # Of the certificate: the authority of a test keeps no list of what it has revoked.
    "cert_revocation": "Neither CRL nor OCSP URI provided",
    # Of testssl.sh: the OpenSSL of this machine knows no Russian ciphers.
    "engine_problem": "No engine or GOST support via engine with your /usr/bin/openssl",
}
BUSY: Final = "check failed because of connect problem"  # says testssl.sh where its own clients were given no time
# Stronger than what the profile has, and what OpenSSL offers beside it; ssl.SSLContext can name one curve, or none.
STRONGER_CURVES: Final = {"secp521r1", "X448"}


def examined(site: Site, report: Path) -> dict[str, dict[str, str]]:
    """What testssl.sh finds, by the id of the check."""
    checks = ("--protocols", "--server-preference", "--server-defaults")
    told = ("--add-ca", site.ca, "--ip", "127.0.0.1", "--nodns", "none", "--warnings", "off", "--quiet")
    output_of("testssl", *checks, *told, "--jsonfile", report, f"{NAME}:{site.port}", within=SLOW, fails=ODDITIES)
    return {one["id"]: one for one in json.loads(report.read_text())}


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_D07_testssl_finds_nothing_above_low(site: Site, scratch: Path) -> None:
    found = examined(site, scratch / "report.json")
    if any(BUSY in one["finding"] for one in found.values()):
        found = examined(site, scratch / "again.json")
    assert {"TLS1_3", "cert_chain_of_trust", "protocol_negotiated", "TLS_extensions"} <= found.keys()
    grave = {name: one["finding"] for name, one in found.items() if one["severity"] in GRAVE}
    assert {name: words for name, words in grave.items() if ACCEPTED.get(name) != words} == {}


def test_D07_D09_sslyze_finds_the_profile_of_Mozilla_and_no_known_weakness(site: Site, scratch: Path) -> None:
    report = scratch / "report.json"
    asked = ("--mozilla_config", "intermediate", "--resum", "--early_data", "--certinfo_ca_file", site.ca)
    said = output_of("sslyze", *asked, "--json_out", report, f"{NAME}:{site.port}", fails=(0, 1))
    verdict = said.partition("COMPLIANCE AGAINST TLS CONFIGURATION")[2]
    differing = dict(re.findall(r"^ +\* (\w+): (.*)$", verdict, re.MULTILINE))
    assert "intermediate" in verdict
    assert set(re.findall(r"'(\w+)'", differing.pop("tls_curves", ""))) <= STRONGER_CURVES
    assert differing == {}
    found = results(report)
    assert not found["tls_1_3_early_data"]["supports_early_data"]
    assert not found["tls_compression"]["supports_compression"]
    assert not found["heartbleed"]["is_vulnerable_to_heartbleed"]
    assert not found["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]
    assert found["robot"]["robot_result"].startswith("NOT_VULNERABLE")
    assert found["session_renegotiation"]["supports_secure_renegotiation"]
    assert not found["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"]
    assert found["tls_fallback_scsv"]["supports_fallback_scsv"]
    assert found["tls_extended_master_secret"]["supports_ems_extension"]
    assert found["session_resumption"]["tls_ticket_resumption_result"] == "FULLY_SUPPORTED"


def results(report: Path) -> dict[str, Any]:
    """What each scan found; none of those that were asked for may have failed."""
    (server,) = json.loads(report.read_text())["server_scan_results"]
    scans = server["scan_result"]
    assert {name for name, scan in scans.items() if scan["status"] != "COMPLETED"} == {"http_headers"}
    return {name: scan["result"] for name, scan in scans.items()}
