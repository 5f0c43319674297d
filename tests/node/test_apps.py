"""Apps are bound and let go: together with everything that follows, or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harbor.errors import HarborError
from harbor.model import ServiceWish
from harbor.store import Store
from support.faulty_store import FaultyStore
from support.running_node import RunningNode, Start
from support.waiting import eventually


def refusal(node: RunningNode, *args: Any, **more: Any) -> HarborError:
    with pytest.raises(HarborError) as caught:
        node.bind(*args, **more)
    return caught.value


def test_a_binding_survives_a_restart_with_its_token_and_its_origin(start: Start) -> None:
    node = start()
    made = node.create("my-port")
    bound = node.bind("my-port", "web", binding_id="theirs", origin={"platform": "osb", "space": "dev"})
    assert bound["id"] == "theirs"
    assert bound["credentials"]["port"] == made["port"]
    assert bound["credentials"]["name"] == bound["service_id"] == made["id"]
    before = node.environment("web")
    node.vanish()
    node = start()
    view = node.call(lambda: node.node.binding("my-port", "web"))
    assert view.with_token() == bound
    assert view.binding.origin == {"platform": "osb", "space": "dev"}
    assert node.environment("web") == before
    found = node.call(lambda: node.node.binding_of_token(bound["token"]))
    assert found == view.binding


def test_a_repeated_bind_is_answered_with_the_same_token_also_after_a_restart(start: Start) -> None:
    node = start()
    node.create("my-port")
    first = node.bind("my-port", "web", key="once")
    assert node.bind("my-port", "web", key="once") == first
    node.vanish()
    node = start()
    assert node.bind("my-port", "web", key="once") == first
    assert node.bound("my-port") == ["web"]
    assert len(node.events("app.bound")) == 1


def test_K11_no_token_is_stored(start: Start) -> None:
    node = start()
    node.create("my-port")
    token = node.bind("my-port", "web", key="once")["token"]
    node.close()
    files = [path for path in node.config.state_dir.iterdir() if path.is_file()]
    assert {"harbor.db", "binding.key"} <= {path.name for path in files}
    for path in files:
        assert token.encode() not in path.read_bytes(), path


def test_a_token_made_with_a_lost_key_stays_valid_but_cannot_be_shown(start: Start) -> None:
    node = start()
    node.create("my-port")
    token = node.bind("my-port", "web", key="once")["token"]
    node.close()
    (node.config.state_dir / "binding.key").unlink()
    node = start()
    view = node.call(lambda: node.node.binding("my-port", "web"))
    assert "token" not in view.with_token()
    assert "token" not in node.bind("my-port", "web", key="once")  # rather none than one that does not work
    assert node.call(lambda: node.node.binding_of_token(token)) == view.binding


def test_what_is_refused_changes_nothing(node: RunningNode) -> None:
    node.create("my-port")
    node.create("my.port")
    node.bind("my-port", "web", binding_id="one")
    for args, more, code in [
        (("nope", "web"), {}, "service_not_found"),
        (("my-port", "a/b"), {}, "name_invalid"),
        (("my-port", ""), {}, "name_invalid"),
        (("my-port", "web"), {}, "binding_exists"),
        (("my-port", "other"), {"binding_id": "one"}, "binding_exists"),
        (("my.port", "web"), {}, "variables_collide"),
    ]:
        assert refusal(node, *args, **more).code == code
    assert (node.bound("my-port"), node.bound("my.port")) == (["web"], [])
    assert len(node.events("app.bound")) == 1


def test_names_that_collide_can_be_bound_to_different_apps_and_after_unbinding(node: RunningNode) -> None:
    node.create("my-port")
    node.create("my.port")
    node.bind("my-port", "web")
    node.bind("my.port", "worker")
    node.unbind("my-port", "web")
    node.bind("my.port", "web")
    assert list(json.loads(node.environment("web")["STACKATO_SERVICES"])) == ["my.port"]


def test_two_binds_that_would_collide_and_come_at_once_are_not_both_made(start: Start) -> None:
    faulty: list[FaultyStore] = []

    def between(store: Store) -> Store:
        faulty.append(FaultyStore(store))
        return faulty[0]

    node = start(store=between)
    names = ["my-port", "my.port", "my_port", "MY-PORT"]
    for name in names:
        node.create(name)
    faulty[0].hold()
    begun = [node.begin(node.node.bind_service(name, "web", actor="test")) for name in names]
    eventually(lambda: faulty[0].held == 1, what="the first one waits for the disk, the others for it")
    faulty[0].let_go()
    outcomes = [one.exception(20) for one in begun]
    assert [type(error).__name__ for error in outcomes if error] == ["Refused"] * 3
    assert len(json.loads(node.environment("web")["STACKATO_SERVICES"])) == 1


def test_F02_two_binds_under_one_id_that_come_at_once_are_not_both_made(start: Start) -> None:
    node = start()
    for name in ("one", "two"):
        node.create(name)
    begun = [
        node.begin(node.node.bind_service(name, f"app-{name}", actor="test", binding_id="theirs"))
        for name in ("one", "two")
    ]
    errors = [error for bind in begun if (error := bind.exception(20)) is not None]
    assert [error.code for error in errors if isinstance(error, HarborError)] == ["binding_exists"]
    assert len(node.bound("one") + node.bound("two")) == 1


def test_an_app_that_is_unbound_from_its_last_service_is_gone(node: RunningNode) -> None:
    node.create("my-port")
    bound = node.bind("my-port", "web")
    node.unbind("my-port", bound["id"])  # by id works as well
    for code, ask in [
        ("app_not_found", lambda: node.environment("web")),
        ("binding_not_found", lambda: node.unbind("my-port", "web")),
        ("token_revoked", lambda: node.call(lambda: node.node.binding_of_token(bound["token"]))),
    ]:
        with pytest.raises(HarborError) as caught:
            ask()
        assert caught.value.code == code
    assert node.bind("my-port", "web")["token"] != bound["token"]


def test_K03_an_id_that_a_platform_uses_again_does_not_let_in_what_the_old_binding_asked_for(node: RunningNode) -> None:
    node.create("my-port")
    node.create("other")
    old = node.bind("my-port", "web", binding_id="theirs")
    node.unbind("my-port", "web")
    new = node.bind("other", "web", binding_id="theirs")
    assert new["token"] != old["token"]
    put = node.node.put_backend("my-port", "b", host="127.0.0.1", port=1, actor="binding:theirs")
    with pytest.raises(HarborError) as caught:
        node.wait(put)
    assert caught.value.code == "token_revoked"
    assert node.backends("my-port") == {}


def test_a_bound_service_is_deleted_by_force_only_and_takes_its_bindings_along(start: Start) -> None:
    node = start()
    node.create("my-port")
    apps = [f"app-{number}" for number in range(8)]
    tokens = [node.bind("my-port", app)["token"] for app in apps]
    with pytest.raises(HarborError, match="app-0, app-1, app-2, app-3, app-4 and 3 more") as caught:
        node.delete("my-port")
    assert (caught.value.code, caught.value.status) == ("service_bound", 409)
    assert node.bound("my-port") == apps
    node.wait(node.node.delete_service("my-port", actor="test", force=True))
    assert len(node.events("app.unbound")) == 8
    node.vanish()
    node = start()
    assert node.services() == {}
    for app in apps:
        with pytest.raises(HarborError, match="bound to no service"):
            node.environment(app)
    for token in tokens:
        with pytest.raises(HarborError) as caught:
            node.call(lambda token=token: node.node.binding_of_token(token))
        assert caught.value.code == "token_revoked"


def test_G10_a_failing_disk_leaves_nothing_half(start: Start) -> None:
    faulty: list[FaultyStore] = []

    def between(store: Store) -> Store:
        faulty.append(FaultyStore(store))
        return faulty[0]

    node = start(store=between)
    node.create("my-port")
    bound = node.bind("my-port", "web")
    faulty[0].broken = True
    assert refusal(node, "my-port", "other", key="k").code == "store_failed"
    with pytest.raises(HarborError):
        node.unbind("my-port", "web")
    with pytest.raises(HarborError):
        node.wait(node.node.delete_service("my-port", actor="test", force=True))
    assert node.bound("my-port") == ["web"]
    assert node.call(lambda: node.node.binding_of_token(bound["token"])) is not None
    assert [len(node.events(kind)) for kind in ("app.bound", "app.unbound", "service.deleted")] == [1, 0, 0]
    faulty[0].broken = False
    assert node.bind("my-port", "other", key="k")["app"] == "other"  # nothing was remembered of the one that failed
    node.vanish()
    node = start()
    assert node.bound("my-port") == ["other", "web"]


def test_a_service_is_found_by_what_the_platform_calls_it(start: Start) -> None:
    node = start()
    origin = {"platform": "osb", "instance_id": "i-1", "parameters": {"protocol": "udp"}}
    make = node.node.create_service
    body, _ = node.wait(make(ServiceWish("a", origin=origin), actor="test"))
    with pytest.raises(HarborError) as caught:
        node.wait(make(ServiceWish("b", origin=origin), actor="test"))
    assert (caught.value.code, caught.value.status) == ("instance_exists", 409)
    node.wait(node.node.update_service("a", {"max_sessions": 3}, actor="test"))
    node.vanish()
    node = start()
    found = node.call(lambda: node.node.find_by_origin("osb", "i-1"))
    assert found is not None
    assert (found.id, found.origin) == (body["id"], origin)
    assert node.call(lambda: node.node.find_by_origin("cf", "i-1")) is None
    node.delete("a")
    assert node.call(lambda: node.node.find_by_origin("osb", "i-1")) is None


def test_F06_one_instance_that_is_asked_for_many_times_at_once_is_made_once(node: RunningNode) -> None:
    origin = {"platform": "osb", "instance_id": "i-1"}
    wishes = [ServiceWish(f"s{number}", origin=origin) for number in range(10)]
    begun = [node.begin(node.node.create_service(wish, actor="test")) for wish in wishes]
    outcomes = [one.exception(20) for one in begun]
    assert outcomes.count(None) == 1
    assert len(node.services()) == 1


def test_F06_a_change_is_carried_to_its_end_though_its_caller_is_gone(start: Start) -> None:
    faulty: list[FaultyStore] = []

    def between(store: Store) -> Store:
        faulty.append(FaultyStore(store))
        return faulty[0]

    node = start(store=between)
    faulty[0].hold()
    begun = node.begin(node.node.create_service(ServiceWish("web"), actor="test"))
    eventually(lambda: faulty[0].held == 1)
    assert begun.cancel()
    node.call(lambda: None)  # the loop has heard of it
    faulty[0].let_go()
    eventually(lambda: list(node.services()) == ["web"])
    node.vanish()
    assert list(start().services()) == ["web"]
