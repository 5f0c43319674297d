"""What ``harbor run`` does for an app, told from outside: real node, real processes, real clients."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from runner.conftest import Start
from support.daemon import Daemon, Serve
from support.needs import needs
from support.runs import APP, Load, asked, backends, greeting, is_gone, port_of
from support.sockets import datagrams
from support.waiting import eventually


def test_it_makes_binds_and_registers_and_connections_go_round(daemon: Daemon, run: Start) -> None:
    running = run("--service", "web", "--instances", "3", "--", *APP).ready(3)
    assert "created web: tcp port" in running.printed
    assert sorted(backends(daemon, "web").items()) == [("site.1", "up"), ("site.2", "up"), ("site.3", "up")]
    assert asked(daemon, "/v1/services/web/bindings")[0]["app"] == "site"
    first = [greeting(port_of(daemon, "web"))[0] for _ in range(3)]
    assert sorted(first) == ["site.1", "site.2", "site.3"]
    assert [greeting(port_of(daemon, "web"))[0] for _ in range(3)] == first
    assert running.stop() == 0
    eventually(lambda: backends(daemon, "web") == {})
    assert running.printed.count("ends in order") == 3
    assert running.printed.endswith("harbor | stopped\n")
    again = run("--service", "web", "--", *APP).ready()
    assert "bound web: tcp port" in again.printed


def test_one_that_is_killed_is_replaced_and_no_new_connection_is_lost(daemon: Daemon, run: Start) -> None:
    running = run("--service", "web", "--instances", "3", "--", *APP).ready(3)
    port, victim = port_of(daemon, "web"), running.pid_of("site.2")
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: is_gone(victim))
    # From here on nobody may notice: a refused dial goes on to the next, a deregistered backend is not dialled.
    answered = [greeting(port) for _ in range(30)]
    assert victim not in {pid for _, pid in answered}
    assert {name for name, _ in answered} >= {"site.1", "site.3"}
    running.ready(4)
    assert "site.2 was ended by SIGKILL" in running.printed
    assert "site.2 starts again in 0.5 s" in running.printed
    assert {greeting(port)[0] for _ in range(3)} == {"site.1", "site.2", "site.3"}


@pytest.mark.parametrize("by", ["SIGHUP", "stackato.yml"])
def test_a_rolling_restart_under_load_loses_no_session(daemon: Daemon, run: Start, folder: Path, by: str) -> None:
    (folder / "stackato.yml").write_text("env: {VERSION: one}\n")
    running = run("--service", "web", "--instances", "2", "--", *APP).ready(2)
    before = running.children()
    with Load(port_of(daemon, "web")) as load:
        eventually(lambda: load.answered >= set(before))
        (folder / "stackato.yml").write_text("env: {VERSION: two}\n")
        if by == "SIGHUP":
            running.signal(signal.SIGHUP)
        running.shows("harbor | restarted\n")
        after = running.children()
        assert not set(before) & set(after)
        eventually(lambda: load.answered >= set(before) | set(after))
    assert load.problems == []
    assert b"VERSION=two" in Path(f"/proc/{after[0]}/environ").read_bytes()
    assert running.stop() == 0


def test_a_session_that_lives_is_waited_for_before_sigterm(daemon: Daemon, run: Start) -> None:
    running = run("--service", "web", "--", *APP).ready()
    with Load.session(port_of(daemon, "web")) as client:
        running.signal(signal.SIGTERM)
        running.shows("stopping")
        eventually(lambda: backends(daemon, "web") == {"site.1": "draining"})
        client.sendall(b"more")
        assert client.recv(4) == b"more"
        assert "got SIGTERM" not in running.printed
    assert running.ended() == 0
    assert "ends in order" in running.printed


def test_a_node_that_is_killed_and_comes_back_finds_its_backends(serve: Serve, daemon: Daemon, run: Start) -> None:
    running = run("--service", "web", "--instances", "2", "--ttl", "1", "--", *APP).ready(2)
    port = port_of(daemon, "web")
    daemon.kill()
    running.shows("the instances go on, and register again")
    daemon = serve()
    running.shows("the node is back")
    # Longer than the one fresh ttl that a restart gives: only renewals keep them.
    known = {one["id"]: one["since"] for one in asked(daemon, "/v1/services/web/backends")}
    eventually(lambda: all(one["expires_in"] < 0.8 for one in asked(daemon, "/v1/services/web/backends")))
    eventually(lambda: all(one["expires_in"] > 0.8 for one in asked(daemon, "/v1/services/web/backends")))
    assert {one["id"] for one in asked(daemon, "/v1/services/web/backends")} == set(known)
    assert {greeting(port)[0] for _ in range(2)} == {"site.1", "site.2"}
    assert "starts again" not in running.printed
    assert running.stop() == 0


def test_udp_goes_to_the_first_and_the_second_is_promoted(daemon: Daemon, run: Start) -> None:
    running = run("--service", "udp-game", "--instances", "2", "--", *APP, "--udp").ready(2)
    first, second = backends(daemon, "udp-game")
    with datagrams() as client:
        client.connect(("127.0.0.1", port_of(daemon, "udp-game")))

        def answer() -> str:
            client.send(b"hello")
            return client.recv(100).decode().split()[0]

        assert [answer() for _ in range(3)] == [first] * 3
        os.kill(running.pid_of(first), signal.SIGKILL)
        running.shows(f"{first} was ended by SIGKILL")
        assert [answer() for _ in range(3)] == [second] * 3
        running.ready(3)
        assert next(iter(backends(daemon, "udp-game"))) == second
        assert answer() == second
    running.signal(signal.SIGINT)
    assert running.ended() == 130


def test_an_app_for_both_protocols_is_ready_when_it_has_both(daemon: Daemon, run: Start, folder: Path) -> None:
    """TCP alone is half of it: datagrams would go to nobody."""
    later = folder / "later"
    program = (
        "import os, socket, time; address = ('127.0.0.1', int(os.environ['STACKATO_HARBOR_BOTH_DNS']))\n"
        "tcp = socket.create_server(address); print('has tcp', flush=True)\n"
        f"while not os.path.exists({str(later)!r}): time.sleep(0.01)\n"
        "udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(address); time.sleep(600)"
    )
    running = run("--service", "both-dns", "--", APP[0], "-c", program)
    running.shows("has tcp")
    running.shows("site.1 does not listen yet on TCP/UDP port")
    assert backends(daemon, "both-dns") == {}
    later.touch()
    running.ready()


def test_a_node_js_app_reads_its_port_from_the_environment(daemon: Daemon, run: Start, folder: Path) -> None:
    needs("node")
    (folder / "app.js").write_text(
        "const services = JSON.parse(process.env.STACKATO_SERVICES)\n"
        "require('http').createServer((request, response) => {\n"
        "  response.end(`${process.env.HARBOR_INSTANCE} ${services['my-port'].port}\\n`)\n"
        "}).listen(process.env.STACKATO_HARBOR, '127.0.0.1')\n"
    )
    (folder / "stackato.yml").write_text("name: port-test\ninstances: 2\nservices:\n  my-port: harbor\n")
    running = run("--", "node", "app.js").ready(2)
    port = port_of(daemon, "my-port")
    seen = {subprocess.check_output([needs("curl"), "-s", f"http://127.0.0.1:{port}/"]) for _ in range(2)}
    assert seen == {f"port-test.1 {port}\n".encode(), f"port-test.2 {port}\n".encode()}
    assert running.stop() == 0


def test_what_stackato_yml_declares_is_provisioned_and_run(daemon: Daemon, run: Start, folder: Path) -> None:
    words = json.dumps([*APP, "--said", "$MESSAGE", "${PORT}"])
    (folder / "stackato.yml").write_text(
        f"name: shop\nmem: 64\nprocesses:\n  web: {words}\nenv: {{MESSAGE: hello}}\n"
        "services:\n  tcp-${name}: harbor\n  udp-${name}: harbor\n  db: mysql\n"
    )
    running = run()
    running.shows("created tcp-shop: tcp port")
    running.shows("created udp-shop: udp port")
    running.shows("db: mysql is left out")
    running.shows("args --said $MESSAGE ")
    pid = eventually(lambda: running.children())[0]
    environment = dict(
        line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in line
    )
    assert environment["STACKATO_HARBOR_TCP_SHOP"] == environment["PORT"]
    assert environment["STACKATO_HARBOR_UDP_SHOP"] != environment["PORT"]
    assert "STACKATO_HARBOR" not in environment
    assert environment["STACKATO_APP_NAME_UPCASE"] == "SHOP"
    assert environment["MESSAGE"] == "hello"
    assert f"args --said $MESSAGE {environment['PORT']}\n" in running.printed


def test_a_changed_file_changes_the_number_of_instances(daemon: Daemon, run: Start, folder: Path) -> None:
    file = folder / "stackato.yml"
    file.write_text("services: {web: harbor}\ninstances: 1\n")
    running = run("--", *APP).ready()
    file.write_text("services: {web: harbor}\ninstances: 3\n")
    running.shows("harbor | restarted\n")
    running.ready(4)
    assert len(backends(daemon, "web")) == 3
    file.write_text("services: {web: harbor}\ninstances: [1]\n")
    running.shows("stackato.yml:2:12: instances: [1] is no number of instances")
    running.shows("not restarted: everything stays as it was")
    file.write_text("services: {web: harbor}\ninstances: 1\n")
    running.shows("harbor | restarted\n", 2)
    eventually(lambda: list(backends(daemon, "web")) == ["site.1"])
    assert running.stop() == 0


def test_a_restart_that_fails_leaves_what_is_there(daemon: Daemon, run: Start, folder: Path) -> None:
    file = folder / "stackato.yml"
    file.write_text(f"services: {{web: harbor}}\nprocesses: {{web: {json.dumps(APP)}}}\n")
    running = run("--instances", "2").ready(2)
    before = running.children()
    file.write_text("services: {web: harbor}\nprocesses: {web: 'false'}\n")
    running.signal(signal.SIGHUP)
    running.shows("the restart is broken off: the others stay as they were")
    assert running.children() == before
    assert greeting(port_of(daemon, "web"))[1] in before
    file.write_text("services: {web: harbor}\nprocesses: {web: nonesuch-program}\n")
    running.signal(signal.SIGHUP)
    running.shows("there is no program 'nonesuch-program' in PATH")
    assert running.children() == before
    assert running.stop() == 0


def test_it_works_with_a_node_elsewhere(daemon: Daemon, run: Start) -> None:
    (url,) = eventually(lambda: re.findall(r"http://[0-9.:]+", daemon.log), what="the node has logged its address")
    token = (daemon.state / "admin.token").read_text().strip()
    away = {"HARBOR_URL": url, "HARBOR_TOKEN": token, "HARBOR_CONFIG": ""}
    running = run("--service", "web", "--", *APP, env=away).ready()
    assert greeting(port_of(daemon, "web"))[0] == "site.1"
    environment = Path(f"/proc/{running.pid_of('site.1')}/environ").read_bytes()
    assert token.encode() not in environment  # it would be the keys to the whole node
    assert b"HARBOR_URL" not in environment
    assert running.stop() == 0
    wrong = run("--service", "web", "--", *APP, env=away | {"HARBOR_TOKEN": "wrong"})
    assert wrong.ended() == 1
    assert "HARBOR_TOKEN is set" in wrong.printed


def test_an_address_that_may_not_be_a_backend_ends_it_with_advice(serve: Serve, run: Start, daemon: Daemon) -> None:
    running = run("--service", "web", "--advertise", "127.0.0.2", "--", *APP)
    running.shows("site.1 does not listen yet on TCP port")
    running.shows("where the node reaches it; it listens on 127.0.0.1:")
    assert running.stop() == 0
    refused = run("--service", "web", "--advertise", "192.0.2.1", "--health", "exec:true", "--", *APP)
    assert refused.ended() == 1
    assert "site.1 cannot be registered: 192.0.2.1:" in refused.printed
    assert "to backends.allow" in refused.printed
    assert "--advertise" in refused.printed


def test_all_services_of_the_app_are_served_when_none_is_named(daemon: Daemon, run: Start) -> None:
    daemon.api.create("web")
    assert run("--", *APP).ended() == 1
    daemon.api("POST", "/v1/services/web/bindings", {"app": "site"})
    run("--", *APP).ready()
    assert list(backends(daemon, "web")) == ["site.1"]


def test_services_that_cannot_be_bound_together_are_refused_before_anything_starts(daemon: Daemon, run: Start) -> None:
    running = run("--service", "my-port", "--service", "my.port", "--", *APP)
    assert running.ended() == 1
    assert "STACKATO_HARBOR_MY_PORT" in running.printed
    assert "args" not in running.printed


def test_a_health_check_decides_who_gets_sessions(daemon: Daemon, run: Start, folder: Path) -> None:
    well = folder / "well"
    words = ("--health", f"exec:test -e {well}", "--ttl", "1", "--", *APP)
    running = run("--service", "web", *words)
    running.shows("site.1 its health check does not pass yet")
    assert backends(daemon, "web") == {}
    well.touch()
    running.ready()
    assert greeting(port_of(daemon, "web"))[0] == "site.1"
    well.unlink()
    running.shows("site.1 its health check failed 3 times: no new sessions until it passes")
    eventually(lambda: backends(daemon, "web") == {})
    well.touch()
    running.ready(2)
    eventually(lambda: backends(daemon, "web") == {"site.1": "up"})
    assert "starts again" not in running.printed
    assert running.stop() == 0


def test_what_instances_print_is_kept_for_each_of_them(daemon: Daemon, run: Start, folder: Path) -> None:
    words = ("--log-dir", "logs", "--service", "web", "--instances", "2", "--", *APP, "--raw", "\x1b[2J", "ä")
    running = run(*words).ready(2)
    assert running.printed.count("args --raw \\x1b[2J ä\n") == 2
    assert running.stop() == 0
    for name in ("site.1.log", "site.2.log"):
        text = (folder / "logs" / name).read_text()
        assert text == "args --raw \x1b[2J ä\ngot SIGTERM\nends in order\n"


def test_a_hostile_environment_harms_neither_the_start_nor_the_instance(
    daemon: Daemon, run: Start, folder: Path
) -> None:
    """What Harbor's own Python reads would make it fail, or run what lies in the app's folder."""
    (folder / "ctypes.py").write_text("raise SystemExit('the wrong ctypes')\n")
    (folder / "stackato.yml").write_text(
        "env: {PYTHONHOME: /nonexistent, PYTHONPATH: ., PYTHONSTARTUP: x, PYTHONINSPECT: '1', IFS: x}\n"
    )
    odd = {os.fsdecode(b"ODD\xff"): os.fsdecode(b"\xfe\n=\x01"), "BIG": "x" * 100_000}
    running = run("--service", "web", "--", *APP, env=odd).ready()
    environment = Path(f"/proc/{running.pid_of('site.1')}/environ").read_bytes().split(b"\0")
    assert b"ODD\xff=\xfe\n=\x01" in environment
    assert b"PYTHONHOME=/nonexistent" in environment
    assert running.stop() == 0


def test_one_that_was_given_up_is_tried_again_at_a_restart(daemon: Daemon, run: Start, folder: Path) -> None:
    """The other one keeps the run going meanwhile."""
    program = f"case $HARBOR_INSTANCE in *.1) test -e {folder}/mended || exit 3;; esac; exec {' '.join(APP)}"
    running = run("--service", "web", "--instances", "2", "--restart-limit", "1", "--", "sh", "-c", program).ready()
    running.shows("site.1 is given up after 1 deaths in a row")
    (folder / "mended").touch()
    running.signal(signal.SIGHUP)
    running.shows("harbor | restarted\n")
    running.ready(3)
    assert sorted(backends(daemon, "web")) == ["site.1", "site.2"]
    assert running.stop() == 0


def test_a_node_that_is_away_is_told_of_once(daemon: Daemon, run: Start, folder: Path) -> None:
    """Also while another instance starts, which has nothing to tell the node yet."""
    program = f"case $HARBOR_INSTANCE in *.1) sleep 600;; esac; exec {' '.join(APP)}"
    running = run("--service", "web", "--instances", "2", "--ttl", "1", "--", "sh", "-c", program).ready()
    daemon.kill()
    running.shows("the instances go on, and register again")
    running.shows("site.1 does not listen yet on TCP port")
    assert running.printed.count("register again") == 1
    assert "the node is back" not in running.printed
    assert running.stop() == 0
