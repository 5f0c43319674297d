"""Apps are bound to services and let go: what they are told, and the tokens with which their instances register.

A binding goes the way of every change, plan → commit → apply; there is nothing to bind at the system. Binding waits for
other changes of the same service, and for those that bind the same app or under the same id: two that pass one by one
may collide together.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from harbor.errors import Unauthorized
from harbor.model import Binding, BindingView, Event, Service
from harbor.node.feed import EventFeed
from harbor.node.parts import Parts
from harbor.node.replies import Replies
from harbor.policy.environment import Place, check_variables, credentials, environment
from harbor.policy.naming import check_name
from harbor.policy.tokens import Tokens, digest, is_token_of
from harbor.store import RemoveBinding, SaveBinding, SaveReply

ACTOR: Final = "binding:"  # who acts by a binding's token, followed by the binding's id


@dataclass(frozen=True, slots=True)
class BindWish:
    """What somebody who binds an app says. ``binding_id`` is the node's choice unless given."""

    app: str
    binding_id: str | None = None
    origin: Mapping[str, Any] | None = None


class Apps:
    """The apps of a node: whoever is bound to at least one service."""

    def __init__(self, parts: Parts, replies: Replies) -> None:
        self._parts = parts
        self._replies = replies
        self._tokens = Tokens(b"")
        node = parts.config.node
        self._place = Place(node.id, node.host, node.hostname, node.ext_host, node.ext_hostname)

    def restore(self, key: bytes, bindings: Iterable[Binding]) -> None:
        """Put back what was stored. ``key`` is what tokens are derived from."""
        self._tokens = Tokens(key)
        for binding in bindings:
            self._parts.bindings.add(binding)

    async def bind(
        self, ref: str, wish: BindWish, actor: str, key: str | None, fingerprint: str, noted: Mapping[str, Any]
    ) -> tuple[dict[str, Any], bool]:
        """Bind an app. Returns the reply, and False if it answers an earlier request with the same key."""
        async with self._replies.claim(key, fingerprint) as earlier:
            if earlier is not None:
                return self._with_token(earlier.body), False
            app = check_name(wish.app, "app")
            known = self._parts.registry.find(ref)
            binding_id = str(uuid.uuid4()) if wish.binding_id is None else wish.binding_id
            hold = self._parts.locks.hold
            # In this order; nobody takes two locks in another one. No service id has a blank.
            async with hold(f"app {app}"), hold(f"binding {binding_id}"), hold(known.id):
                view = self._plan(self._parts.registry.find(known.id), app, binding_id, wish.origin or {})
                body = view.as_json()
                reply = None if key is None else SaveReply(key, fingerprint, body)
                await self._commit(view, actor, reply, noted)
                self._parts.bindings.add(view.binding)
            if reply is not None:
                self._replies.remember(reply)
            return self._with_token(body), True

    async def unbind(self, ref: str, app_or_id: str, actor: str, noted: Mapping[str, Any]) -> None:
        """Let an app go; its token is worth nothing from here on."""
        parts = self._parts
        known = parts.registry.find(ref)
        async with parts.locks.hold(known.id):
            service = parts.registry.find(known.id)
            binding = parts.bindings.find(service.id, service.name, app_or_id)
            event = unbound_event(parts.feed, actor, service.name, binding, noted)
            await parts.journal.commit(event, RemoveBinding(binding.id))
            parts.bindings.remove(binding)

    def view(self, binding: Binding) -> BindingView:
        """The binding as it is shown."""
        service = self._parts.registry.find(binding.service_id)
        return BindingView(binding, service.name, credentials(service, self._place), self._token(binding))

    def credentials(self, service: Service) -> dict[str, Any]:
        """What apps that are bound to the service are given."""
        return credentials(service, self._place)

    def environment(self, app: str) -> dict[str, str]:
        """The variables of an app. Errors: ``NotFound`` (``app_not_found``)."""
        services = [self._parts.registry.find(binding.service_id) for binding in self._parts.bindings.of_app(app)]
        return environment((service, credentials(service, self._place)) for service in services)

    def of_token(self, token: str) -> Binding | None:
        """Whose token this is. Errors: ``Unauthorized`` (``token_revoked``) if it was one of this node's once."""
        known = digest(token)
        binding = self._parts.bindings.with_digest(known)
        if binding is not None and is_token_of(token, binding.token_digest):
            return binding
        if self._tokens.issued(token):
            raise _revoked()
        return None

    def _plan(self, service: Service, app: str, binding_id: str, origin: Mapping[str, Any]) -> BindingView:
        registry, bindings = self._parts.registry, self._parts.bindings
        bindings.check(binding_id, service.id, service.name, app)
        check_variables(service.name, [registry.find(other).name for other in bindings.services_of(app)], app)
        created = time.time()
        token = self._tokens.token(binding_id, service.id, created)
        binding = Binding(binding_id, service.id, app, created, digest(token), origin)
        return BindingView(binding, service.name, credentials(service, self._place), token)

    async def _commit(self, view: BindingView, actor: str, reply: SaveReply | None, noted: Mapping[str, Any]) -> None:
        binding = view.binding
        message = f"{view.service} is bound to app {binding.app}"
        details = {"app": binding.app, "binding": binding.id, **noted}
        event = self._parts.feed.draft("app.bound", actor, message, view.service, **details)
        await self._parts.journal.commit(event, SaveBinding(binding), *([reply] if reply else []))

    def _with_token(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A reply that is stored without its token, with it; also the reply of a binding that is no more."""
        token = self._tokens.token(body["id"], body["service_id"], body["created"])
        binding = self._parts.bindings.get(body["id"])
        lost = binding is not None and not is_token_of(token, binding.token_digest)
        return dict(body) if lost else {**body, "token": token}

    def _token(self, binding: Binding) -> str | None:
        token = self._tokens.token(binding.id, binding.service_id, binding.created)
        return token if is_token_of(token, binding.token_digest) else None


def unbound_event(feed: EventFeed, actor: str, service: str, binding: Binding, noted: Mapping[str, Any]) -> Event:
    """What the feed tells of a binding that ends."""
    message = f"{service} is not bound to app {binding.app} any more"
    return feed.draft("app.unbound", actor, message, service, app=binding.app, binding=binding.id, **noted)


def check_actor(parts: Parts, actor: str, service_id: str) -> None:
    """Return unless the actor is a binding that is no more, or not of this service: its request was let in before, and
    came too late.

    Errors: ``Unauthorized`` (``token_revoked``).
    """
    if actor.startswith(ACTOR):
        binding = parts.bindings.get(actor.removeprefix(ACTOR))
        if binding is None or binding.service_id != service_id:
            raise _revoked()


def _revoked() -> Unauthorized:
    return Unauthorized(
        "this token was revoked: its app is not bound any more; bind it again for a new one", code="token_revoked"
    )
