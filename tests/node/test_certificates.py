"""Certificates of a node: which one a service shows, how a new one takes its place, and that a bad one does not."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import socket
import ssl
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harbor.errors import HarborError
from harbor.model import CertificateView, TlsTerms
from harbor.model.certificate import Source
from harbor.store.sqlite import SqliteStore
from support.faulty_store import FaultyStore
from support.pairs import Made, make, revocations
from support.running_node import MakeBackend, RunningNode, Start
from support.tls_services import put_tls_services
from support.waiting import eventually

HOST = "127.0.0.1"  # the node's, as its configuration says by default
GOOD = make("web.example", HOST)
NEWER = make("web.example", HOST, days=200)
EXPIRED = make("web.example", HOST, days=-1)
CA = make(subject="Clients", is_ca=True)


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    directory = tmp_path / "certs"
    directory.mkdir()
    return directory


@pytest.fixture
def tls_node(start: Start, tmp_path: Path, certs: Path, ports: range) -> Callable[..., RunningNode]:
    """Starts a node that has TLS services, and always the same state."""

    def start_one(*names: str, extra: str = "", **more: Any) -> RunningNode:
        asyncio.run(put_tls_services(tmp_path / "state", ports, *names))
        return start(extra=f"certs_dir: {certs}\n{extra}", **more)

    return start_one


def view(node: RunningNode, name: str = "web") -> CertificateView:
    return node.call(lambda: node.node.certificate(name))


def shows(node: RunningNode, made: Made, name: str = "web") -> bool:
    return view(node, name).facts.fingerprint == made.fingerprint


def terms(node: RunningNode, name: str = "web") -> TlsTerms:
    found = node.call(lambda: node.node._parts.terms(node.node._parts.registry.find(name)))
    assert found is not None
    return found


def put(node: RunningNode, made: Made, name: str = "web", key: str | None = None) -> CertificateView:
    return node.wait(node.node.put_certificate(name, made.chain, key or made.key, actor="test"))


def refusal(node: RunningNode, *args: Any, **more: Any) -> HarborError:
    with pytest.raises(HarborError) as refused:
        put(node, *args, **more)
    return refused.value


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "state" / "certificates").iterdir())


def test_the_first_source_that_there_is_wins(tls_node: Callable[..., RunningNode], certs: Path) -> None:
    node = tls_node("web", "other")
    assert view(node).source is Source.SELF_SIGNED
    assert HOST in view(node).facts.names
    shared, own, uploaded = make("*.example", days=50), make("own.example", days=60), make("up.example", days=70)
    shared.write(certs, "harbor")
    eventually(lambda: shows(node, shared) and shows(node, shared, "other"))
    own.write(certs, "web")
    eventually(lambda: shows(node, own))
    put(node, uploaded)
    assert [shows(node, uploaded), shows(node, shared, "other")] == [True, True]
    # All of them are there for who asks by name; the first is the default.
    assert [identity.names for identity in terms(node).identities] == [
        ("up.example",),
        ("own.example",),
        ("*.example",),
    ]
    node.wait(node.node.delete_certificate("web", actor="test"))
    assert shows(node, own)
    for file in certs.iterdir():
        file.unlink()
    eventually(lambda: view(node).source is Source.SELF_SIGNED)
    assert "gone from certs_dir" in node.events("certificate.changed")[-1]


def test_D11_a_replaced_file_is_shown_and_what_is_kept_is_private(
    tls_node: Callable[..., RunningNode], certs: Path, tmp_path: Path
) -> None:
    GOOD.write(certs, "web")
    node = tls_node("web")
    assert shows(node, GOOD)
    NEWER.write(certs, "web")
    began = time.monotonic()
    eventually(lambda: shows(node, NEWER))
    assert time.monotonic() - began < 10
    assert stat.S_IMODE((tmp_path / "state" / "certificates").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in kept(tmp_path)} == {0o600}
    names = {Path(identity.file).name for identity in terms(node).identities}
    assert names < {file.name for file in kept(tmp_path)}
    assert len(kept(tmp_path)) == 2  # it and the self-signed one: the former is gone, key and all
    assert "web shows CN=web.example (from certs_dir)" in node.events("certificate.changed")[-1]


def test_D11_a_signal_makes_the_node_look_at_once(tls_node: Callable[..., RunningNode], certs: Path) -> None:
    node = tls_node("web")
    GOOD.write(certs, "web")
    node.call(node.node.look_at_certificates)
    eventually(lambda: shows(node, GOOD))


def written(file: Path, text: str, mode: int = 0o600) -> None:
    file.unlink(missing_ok=True)
    file.touch(mode)
    file.write_text(text)
    file.chmod(mode)


def linked(certs: Path) -> None:
    NEWER.write(certs.parent, "outside")
    (certs / "web.crt").unlink()
    (certs / "web.crt").symlink_to(certs.parent / "outside.crt")


def piped(certs: Path) -> None:
    (certs / "web.crt").unlink()
    os.mkfifo(certs / "web.crt")


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "mismatch": (lambda certs: written(certs / "web.crt", NEWER.own), "the key is not that of the certificate"),
    "half": (lambda certs: written(certs / "web.crt", NEWER.own[:300]), "cut off"),
    "empty": (lambda certs: written(certs / "web.crt", ""), "is empty"),
    "10 MB": (lambda certs: written(certs / "web.crt", "x" * 10_000_000), "more than 64 KiB"),
    "expired": (lambda certs: EXPIRED.write(certs, "web"), "renew it"),
    "no key": (lambda certs: (certs / "web.key").unlink(), "there is web.crt but no web.key"),
    "open key": (lambda certs: written(certs / "web.key", GOOD.key, 0o644), "chmod 600"),
    "link": (linked, "symbolic link"),
    "pipe": (piped, "no regular file"),
}


@pytest.mark.parametrize("what", BAD)
def test_D12_a_bad_file_leaves_the_last_good_one_also_over_a_restart(
    tls_node: Callable[..., RunningNode], certs: Path, what: str
) -> None:
    GOOD.write(certs, "web")
    node = tls_node("web")
    spoil, words = BAD[what]
    spoil(certs)
    node.call(node.node.look_at_certificates)
    eventually(lambda: any(words in told for told in node.events("certificate.refused")), what=words)
    assert shows(node, GOOD)
    assert words in str(view(node).refused)
    node.vanish()
    node = tls_node("web")
    assert shows(node, GOOD)
    assert words in str(view(node).refused)
    NEWER.write(certs, "web")
    node.call(node.node.look_at_certificates)
    eventually(lambda: shows(node, NEWER))
    assert view(node).refused is None


def test_D12_a_bad_upload_is_refused_with_words_and_an_event(
    tls_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = tls_node("web")
    put(node, GOOD)
    refused = refusal(node, EXPIRED)
    assert (refused.code, refused.status) == ("certificate_expired", 400)
    assert refusal(node, NEWER, key=GOOD.key).code == "key_mismatch"
    assert shows(node, GOOD)
    told = node.events("certificate.refused")
    assert ["renew it" in told[0], "the key is not that" in told[1]] == [True, True]
    assert len(kept(tmp_path)) == 2


def test_D12_a_service_never_gets_the_key_of_another(tls_node: Callable[..., RunningNode], certs: Path) -> None:
    GOOD.write(certs, "web")
    node = tls_node("web", "web.crt", "WEB", "web-2")
    assert shows(node, GOOD)
    for other in ("web.crt", "WEB", "web-2"):
        assert view(node, other).source is Source.SELF_SIGNED
        assert all("web.example" not in identity.names for identity in terms(node, other).identities)


def test_D01_a_service_shows_several_certificates_by_the_name_that_is_asked_for(
    tls_node: Callable[..., RunningNode], certs: Path
) -> None:
    first, blog, wild = make("shop.example"), make("blog.example"), make("*.example")
    first.write(certs, "web")
    blog.write(certs, "web+blog")
    wild.write(certs, "harbor+wild")
    node = tls_node("web", "other")
    asked = {"blog.example": blog, "BLOG.example": blog, "any.example": wild, "shop.example": first, "else": first}
    for _ in range(2):
        for name, made in asked.items():
            with client_of(node, "web", name=name) as client:
                assert presented(client) == made.fingerprint
        with client_of(node, "other", name="blog.example") as client:
            assert presented(client) == wild.fingerprint
        node.vanish()
        node = tls_node()
    for suffix in (".crt", ".key"):
        (certs / f"web+blog{suffix}").unlink()
    node.call(node.node.look_at_certificates)
    eventually(lambda: len(terms(node).identities) == 2)
    with client_of(node, "web", name="blog.example") as client:
        assert presented(client) == wild.fingerprint
    node.delete("web")
    node.close()
    assert {row.owner for row in stored(certs.parent)} == {"", "+wild"}


def test_D11_sessions_outlive_the_certificate_with_which_they_began(
    tls_node: Callable[..., RunningNode], backend: MakeBackend
) -> None:
    node = tls_node("web")
    put(node, GOOD)
    node.put("web", "b", backend().address)
    with client_of(node, "web") as old:
        put(node, NEWER)
        with client_of(node, "web") as new:
            assert (presented(old), presented(new)) == (GOOD.fingerprint, NEWER.fingerprint)
            for client in (old, new):
                client.sendall(b"hello")
                assert client.recv(5) == b"hello"


def test_verified_clients_by_rules_that_were_set_later(
    tls_node: Callable[..., RunningNode], backend: MakeBackend, tmp_path: Path
) -> None:
    node = tls_node("web")
    node.put("web", "b", backend().address)
    rules = {"verify": "required", "ca": CA.own}
    node.wait(node.node.update_service("web", {"tls_rules": rules}, actor="test"))
    friend = make("friend", by=CA)
    friend.write(tmp_path / "clients", "friend")
    with client_of(node, "web", tmp_path / "clients" / "friend") as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
    with pytest.raises(OSError), client_of(node, "web") as client:  # noqa: PT011, PT012 - TLS 1.3 tells at the first read
        client.sendall(b"hello")
        client.recv(5)


def client_of(node: RunningNode, service: str, pair: Path | None = None, name: str | None = None) -> ssl.SSLSocket:
    """A TLS client of a service, which trusts everybody; ``name`` is the server name that it asks for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if pair is not None:
        context.load_cert_chain(f"{pair}.crt", f"{pair}.key")
    return context.wrap_socket(socket.create_connection((HOST, node.port(service)), timeout=20), server_hostname=name)


def presented(client: ssl.SSLSocket) -> str:
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return hashlib.sha256(shown).hexdigest()


def contexts() -> int:
    gc.collect()
    return sum(isinstance(one, ssl.SSLContext) for one in gc.get_objects())


def test_D13_a_storm_of_reloads_leaves_nothing_behind(
    tls_node: Callable[..., RunningNode], certs: Path, tmp_path: Path
) -> None:
    node = tls_node("web")
    some = [make(f"n{number}.example", HOST) for number in range(10)]
    told, alive = len(node.events("certificate.changed")), contexts()

    def storm() -> None:  # within one turn of the loop, so that the node can look only afterwards
        for number in range(100):
            some[number % 10].write(certs, "web")
            node.node.look_at_certificates()

    for _ in range(10):
        node.call(storm)
    eventually(lambda: shows(node, some[9]))
    assert len(node.events("certificate.changed")) - told <= 10  # of a thousand changes
    assert len(kept(tmp_path)) == 2
    assert contexts() <= alive


def test_D19_no_key_is_told_or_stored_but_in_its_private_file(
    tls_node: Callable[..., RunningNode], tmp_path: Path, certs: Path
) -> None:
    node = tls_node("web")
    put(node, GOOD)
    refusal(node, EXPIRED)
    secrets = [made.key.splitlines()[2] for made in (GOOD, EXPIRED)]
    shown = str(view(node)) + str(view(node).as_json(0)) + str(node.call(lambda: node.node.events.recent(0, 999)))
    assert not any(secret in shown for secret in secrets)
    node.close()
    holding = [
        file
        for file in tmp_path.rglob("*")
        if file.is_file() and any(secret.encode() in file.read_bytes() for secret in secrets)
    ]
    assert len(holding) == 1
    assert holding[0].parent.name == "certificates"


def test_an_upload_survives_a_restart_and_an_orphan_does_not(
    tls_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = tls_node("web")
    put(node, GOOD)
    node.vanish()
    orphan = tmp_path / "state" / "certificates" / ("0" * 64 + ".pem")
    orphan.write_text("left by a crash between writing it and committing it")
    node = tls_node("web")
    assert (shows(node, GOOD), view(node).source) == (True, Source.UPLOADED)
    assert not orphan.exists()


def test_a_further_upload_survives_a_restart_and_goes_with_its_service(
    tls_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = tls_node("web")
    more = make("more.example")
    node.wait(node.node.put_certificate("web", more.chain, more.key, actor="test", label="more"))
    put(node, GOOD)
    node.vanish()
    node = tls_node()
    assert shows(node, GOOD)
    assert view(node).further["more"].fingerprint == more.fingerprint
    assert len(terms(node).identities) == 2
    node.delete("web")
    left = [file.read_text() for file in (tmp_path / "state" / "certificates").iterdir()]
    assert not any(more.own.splitlines()[3] in text for text in left)


def test_an_upload_that_cannot_be_stored_changes_nothing(tls_node: Callable[..., RunningNode], tmp_path: Path) -> None:
    stores: list[FaultyStore] = []

    def faulty(store: Any) -> FaultyStore:
        stores.append(FaultyStore(store))
        return stores[-1]

    node = tls_node("web", store=faulty)
    put(node, GOOD)
    stores[0].broken = True
    assert refusal(node, NEWER).code == "store_failed"
    assert shows(node, GOOD)
    stores[0].broken = False
    assert len(kept(tmp_path)) == 2


def test_a_copy_that_is_lost_is_told_and_the_next_source_serves(
    tls_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = tls_node("web")
    put(node, GOOD)
    file = Path(terms(node).identities[0].file)
    node.close()
    file.unlink()
    node = tls_node("web")
    assert view(node).source is Source.SELF_SIGNED
    assert "the copy in state_dir is lost" in node.events("certificate.refused")[-1]


def test_a_self_signed_one_is_kept_and_made_anew_for_other_names(tls_node: Callable[..., RunningNode]) -> None:
    node = tls_node("web")
    first = view(node).facts
    node.close()
    node = tls_node("web")
    assert view(node).facts == first
    node.close()
    node = tls_node("web", extra="node: {ext_hostname: ports.example}")
    assert view(node).facts.fingerprint != first.fingerprint
    assert "ports.example" in view(node).facts.names


def test_each_threshold_is_told_once(tls_node: Callable[..., RunningNode], certs: Path) -> None:
    make("web.example", HOST, days=6).write(certs, "web")
    node = tls_node("web")
    told = ["web: the certificate CN=web.example expires in 5 days; give a new one"]
    assert node.events("certificate.expiring") == told
    node.close()
    node = tls_node("web")
    assert node.events("certificate.expiring") == told


def test_a_list_of_revoked_certificates_that_runs_out_is_told_of_once(tls_node: Callable[..., RunningNode]) -> None:
    node = tls_node("web")
    rules = {"verify": "required", "ca": CA.own, "crl": revocations(CA, days=2)}
    node.wait(node.node.update_service("web", {"tls_rules": rules}, actor="test"))
    assert "crl_expiring" in [finding.code for finding in view(node).findings]

    def look(after: float) -> None:
        services = node.node._certificates._ended_here()
        node.node._certificates._expiry.look((), services, time.time() + after, at_once=True)

    for after in (0, 60, 3 * 86_400, 4 * 86_400):
        node.call(lambda after=after: look(after))  # type: ignore[misc]
    told = node.events("certificate.expiring")
    assert len(told) == 2
    assert "runs out on" in told[0]
    assert "ran out on" in told[1]
    assert "every client" in told[1]


def test_the_rules_of_a_service_reach_its_listener_and_change_while_it_lives(
    tls_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = tls_node("web", extra="tls: {alpn: [http/1.1]}")
    assert terms(node).rules.alpn == ("http/1.1",)
    changes = {"tls_rules": {"min_version": "1.3", "verify": "required", "ca": CA.own, "crl": revocations(CA)}}
    changed = node.wait(node.node.update_service("web", changes, actor="test")).as_json()
    assert (changed["tls_rules"]["min_version"], changed["tls_rules"]["verify"]) == ("1.3", "required")
    assert len(changed["tls_rules"]["ca"]) == 64
    found = terms(node)
    assert found.rules.min_version == "1.3"
    assert found.ca_file is not None
    assert Path(found.ca_file).read_text() == CA.own
    assert found.crl_file is not None
    assert CA.own.splitlines()[3] not in "".join(node.events("service.updated"))
    node.vanish()
    node = tls_node(extra="tls: {alpn: [http/1.1]}")  # the services of before are there again
    assert terms(node) == found
    changed = node.wait(node.node.update_service("web", {"tls_rules": {"min_version": None}}, actor="test")).as_json()
    assert (changed["tls_rules"]["min_version"], changed["tls_rules"]["verify"]) == ("1.2", "required")
    node.wait(node.node.update_service("web", {"tls_rules": None}, actor="test"))
    assert terms(node).ca_file is None


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"verify": "required"}, "give ca"),
        ({"crl": "x"}, "needs ca"),
        ({"ca": "hello"}, "ca: there is no '-----BEGIN CERTIFICATE-----'"),
        ({"ca": GOOD.own}, "is no authority"),
        ({"min_version": "1.1"}, "none of 1.2, 1.3"),
        ({"colour": "blue"}, "there is no such rule"),
    ],
)
def test_rules_that_cannot_work_are_refused(
    tls_node: Callable[..., RunningNode], rules: dict[str, Any], words: str
) -> None:
    node = tls_node("web")
    with pytest.raises(HarborError) as refused:
        node.wait(node.node.update_service("web", {"tls_rules": rules}, actor="test"))
    assert refused.value.code == "tls_rules_invalid"
    assert words in refused.value.message
    assert terms(node).rules.min_version == "1.2"


def test_services_without_tls_have_neither_certificates_nor_rules(node: RunningNode, tmp_path: Path) -> None:
    node.create("plain")
    assert refusal(node, GOOD, name="plain").code == "tls_off"
    with pytest.raises(HarborError) as refused:
        view(node, "plain")
    assert refused.value.code == "certificate_not_found"
    with pytest.raises(HarborError) as refused:
        node.wait(node.node.update_service("plain", {"tls_rules": {"min_version": "1.3"}}, actor="test"))
    assert refused.value.code == "tls_rules_invalid"
    assert "tls_rules" not in node.call(lambda: node.node.service("plain").as_json())
    assert not (tmp_path / "state" / "certificates").exists()


def test_a_deleted_service_takes_its_certificate_and_key_with_it(
    tls_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = tls_node("web")
    put(node, GOOD)
    assert len(kept(tmp_path)) == 2
    node.delete("web")
    assert len(kept(tmp_path)) == 1  # the node's own
    node.close()
    assert [row.source for row in stored(tmp_path)] == [Source.SELF_SIGNED]


def stored(tmp_path: Path) -> Any:
    async def read() -> Any:
        store = SqliteStore.open(tmp_path / "state")
        rows = store.load().certificates
        await store.close()
        return rows

    return asyncio.run(read())
