"""Commands for certificates: give a service one, see what it shows, find out what is wrong with a file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from harbor.cli.client import pages, segment, send
from harbor.cli.group import Commands, Failed
from harbor.cli.options import config_option, json_option
from harbor.cli.output import clean, print_fields, print_json, print_table, say
from harbor.model.certificate import Facts, Finding, Severity

BEGIN_CRL: Final = b"-----BEGIN X509 CRL-----"
MOST_BYTES: Final = 64 * 1024  # what the node takes as well

label_option = click.option("--as", "label", metavar="LABEL", help="One of several; without it, the service's first.")
existing = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=Commands)
def cert() -> None:
    """Certificates of services whose TLS the node ends.

    \b
    A service shows the first of these that there is:
      what harbor cert put has uploaded for it
      <certs_dir>/<service>.crt and .key
      <certs_dir>/harbor.crt and .key
      one that the node has made and signed itself

    \b
    Examples:
      harbor cert check fullchain.pem privkey.pem
      harbor cert put shop-https --cert fullchain.pem --key privkey.pem
      harbor cert list
    """


@cert.command("put")
@click.argument("name")
@click.option("--cert", "certificate", type=existing, required=True, metavar="FILE", help="Its certificate and chain.")
@click.option("--key", type=existing, required=True, metavar="FILE", help="The private key, not encrypted.")
@label_option
@json_option
@config_option
def put(name: str, certificate: Path, key: Path, label: str | None, as_json: bool, config: Path | None) -> None:
    """Upload a certificate for a service.

    The node examines it and tries a handshake; then it is shown from the next handshake on, and sessions live on. One
    that is refused changes nothing. Further ones, each with a label, are for clients that ask for a name in them.

    \b
    Examples:
      harbor cert put shop-https --cert fullchain.pem --key privkey.pem
      harbor cert put shop-https --cert blog.pem --key blog.key --as blog
    """
    body = {"certificate": _text(certificate), "key": _text(key)}
    shown = send(config, "PUT", f"/v1/certificates/{segment(name)}", body, query={"label": label}, tries=2).body
    if as_json:
        print_json(shown)
        return
    one = next((one for one in shown.get("further", ()) if one["label"] == label), shown)
    say(f"{shown['service']} shows {one['subject']} ({', '.join(one['names'])}), {_left(one['days_left'])}")
    _print_findings(shown["findings"])


@cert.command("check")
@click.argument("files", nargs=-1, required=True, type=existing, metavar="FILE...")
@click.option("--name", "names", multiple=True, metavar="NAME", help="By which clients connect; repeatable.")
@json_option
def check(files: tuple[Path, ...], names: tuple[str, ...], as_json: bool) -> None:
    """Say what is wrong with a certificate.

    Give the file of the certificate, those of its chain if they are apart, and the key. Nothing is sent to a node.
    Without the key it is examined as far as that goes. A list of revoked certificates is examined on its own.

    \b
    Examples:
      harbor cert check fullchain.pem privkey.pem
      harbor cert check shop.crt middle.crt shop.key --name shop.example.com
      harbor cert check revoked.pem
    """
    facts, findings = _examined([_text(file) for file in files], names)
    wrong = [finding for finding in findings if finding.severity is Severity.ERROR]
    if as_json:
        told: dict[str, Any] = {"ok": not wrong, "findings": [finding.as_json() for finding in findings]}
        print_json(told | ({} if facts is None else _facts_json(facts)))
    else:
        if facts is not None:
            print_fields(_fields(_facts_json(facts)))
        _print_findings([finding.as_json() for finding in findings])
        if not wrong:
            say("OK")
    click.get_current_context().exit(1 if wrong else 0)


@cert.command("list")
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """List what the services show.

    \b
    Example:
      harbor cert list
    """
    found = list(pages(config, "/v1/certificates"))
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one["service"],
            one["source"],
            ", ".join(one["names"]),
            _day(one["not_after"]),
            one["days_left"],
            _trouble(one),
        )
        for one in found
    ]
    headings = ("service", "source", "names", "expires", "days left", "trouble")
    print_table(headings, rows, empty="no service has its TLS ended by the node")


@cert.command("show")
@click.argument("name")
@json_option
@config_option
def show(name: str, as_json: bool, config: Path | None) -> None:
    """Show the certificate of a service.

    And what is wrong with it, or with a newer one that is not served for that.

    \b
    Example:
      harbor cert show shop-https
    """
    found = send(config, "GET", f"/v1/certificates/{segment(name)}").body
    if as_json:
        print_json(found)
        return
    print_fields({"service": found["service"], "source": found["source"]} | _fields(found))
    for one in found.get("further", ()):
        say(f"further, as {one['label']}: {one['subject']} ({', '.join(one['names'])}), {_left(one['days_left'])}")
    _print_findings(found["findings"])
    if "refused" in found:
        say(f"not served: {found['refused']}")


@cert.command("delete")
@click.argument("name")
@label_option
@config_option
def delete(name: str, label: str | None, config: Path | None) -> None:
    """Forget what was uploaded for a service.

    What lies in certs_dir takes its place, or what the node has signed itself.

    \b
    Example:
      harbor cert delete shop-https
    """
    send(config, "DELETE", f"/v1/certificates/{segment(name)}", query={"label": label})
    say(f"the certificate that was uploaded for {name}{f' as {label}' if label else ''} is forgotten")


def _examined(texts: Sequence[str], names: Sequence[str]) -> tuple[Facts | None, tuple[Finding, ...]]:
    """What the doctor says of all these texts together, and what a handshake says if they have a key."""
    import tempfile

    from harbor.certificates import Keep, accept, examine, examine_chain, examine_lists, read_chain, read_pair
    from harbor.certificates.pem import BEGIN_KEY, facts_of
    from harbor.errors import HarborError

    whole = "\n".join(texts).encode()
    facts = None
    try:
        if BEGIN_CRL in whole:
            return None, examine_lists(whole.decode(), time.time())
        if BEGIN_KEY not in whole:
            chain = read_chain(whole)
            return facts_of(chain[0]), examine_chain(chain, names)
        pair = read_pair(whole, whole)
        facts = pair.facts()
        findings = examine(pair, names)
        if all(finding.severity is not Severity.ERROR for finding in findings):
            with tempfile.TemporaryDirectory() as scratch:
                accept(Keep(Path(scratch)), whole, whole, names, time.time())
    except HarborError as exc:
        findings = (Finding(Severity.ERROR, exc.code, exc.message),)
    except ValueError:
        findings = (Finding(Severity.ERROR, "certificate_invalid", "the certificate breaks the rules of X.509"),)
    return facts, findings


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except OSError as exc:
        raise Failed(f"{file}: {exc.strerror}") from exc
    if len(content) > MOST_BYTES:
        raise Failed(f"{file} has more than {MOST_BYTES // 1024} KiB; give the certificate and its chain only")
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as exc:
        raise Failed(f"{file} is no PEM; openssl x509 -inform DER makes it of a certificate that is DER") from exc


def _facts_json(facts: Facts) -> dict[str, Any]:
    return {
        "subject": facts.subject,
        "issuer": facts.issuer,
        "names": list(facts.names),
        "not_before": facts.not_before,
        "not_after": facts.not_after,
        "days_left": facts.days_left(time.time()),
        "fingerprint": facts.fingerprint,
        "key": facts.key,
    }


def _fields(found: Mapping[str, Any]) -> dict[str, object]:
    return {
        "subject": found["subject"],
        "issuer": found["issuer"],
        "names": ", ".join(found["names"]),
        "valid": f"{_day(found['not_before'])} to {_day(found['not_after'])}, {_left(found['days_left'])}",
        "key": found["key"],
        "sha256": found["fingerprint"],
    }


def _print_findings(findings: Sequence[Mapping[str, Any]]) -> None:
    for finding in findings:
        click.echo(clean(f"{finding['severity']}: {finding['message']}"), err=True)


def _trouble(one: Mapping[str, Any]) -> str:
    if "refused" in one:
        return "a newer one is not served"
    return ", ".join(finding["code"] for finding in one["findings"])


def _left(days: int) -> str:
    return f"{days} day{'' if days == 1 else 's'} left" if days >= 0 else "expired"


def _day(unix_time: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(unix_time))
