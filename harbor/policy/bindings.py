"""Which apps are bound to which services: decided here, made durable and done by the node."""

from __future__ import annotations

from harbor.errors import NotFound, Refused
from harbor.model import Binding
from harbor.policy.naming import shown


class Bindings:
    """The bindings of a node, found by service, by app, by their id, and by the digest of their token."""

    __slots__ = ("_by_app", "_by_digest", "_by_id", "_by_service")

    def __init__(self) -> None:
        self._by_id: dict[str, Binding] = {}
        self._by_digest: dict[str, Binding] = {}
        self._by_service: dict[str, dict[str, Binding]] = {}  # service id -> app -> binding
        self._by_app: dict[str, dict[str, Binding]] = {}  # app -> service id -> binding

    def __repr__(self) -> str:
        return f"<Bindings [{len(self._by_id)} of {len(self._by_app)} apps to {len(self._by_service)} services]>"

    def check(self, binding_id: str, service_id: str, service: str, app: str) -> None:
        """Return if this binding can be made. Errors: ``Refused`` (``binding_exists``)."""
        if app in self._by_service.get(service_id, ()):
            raise Refused(
                f"app {shown(app)} is bound to {service} already; unbind it first to bind it anew",
                code="binding_exists",
            )
        if binding_id in self._by_id:
            raise Refused(
                f"there is a binding with the id {shown(binding_id)} already; use another id", code="binding_exists"
            )

    def add(self, binding: Binding) -> None:
        """Add a binding that ``check`` lets pass."""
        self._by_id[binding.id] = binding
        self._by_digest[binding.token_digest] = binding
        self._by_service.setdefault(binding.service_id, {})[binding.app] = binding
        self._by_app.setdefault(binding.app, {})[binding.service_id] = binding

    def remove(self, binding: Binding) -> None:
        """Forget a binding."""
        del self._by_id[binding.id]
        del self._by_digest[binding.token_digest]
        for index, key, member in (
            (self._by_service, binding.service_id, binding.app),
            (self._by_app, binding.app, binding.service_id),
        ):
            del index[key][member]
            if not index[key]:
                del index[key]

    def get(self, binding_id: str) -> Binding | None:
        """The binding with this id."""
        return self._by_id.get(binding_id)

    def with_digest(self, digest: str) -> Binding | None:
        """The binding whose token has this digest."""
        return self._by_digest.get(digest)

    def find(self, service_id: str, service: str, ref: str) -> Binding:
        """The binding of this service to the app of this name, or with this id.

        Errors: ``NotFound`` (``binding_not_found``).
        """
        found = self._by_service.get(service_id, {}).get(ref) or self._by_id.get(ref)
        if found is None or found.service_id != service_id:
            raise NotFound(
                f"service {service} is not bound to an app {shown(ref)}; harbor service {service} lists its bindings",
                code="binding_not_found",
            )
        return found

    def of_service(self, service_id: str) -> list[Binding]:
        """The bindings of a service, by app."""
        found = self._by_service.get(service_id, {})
        return [found[app] for app in sorted(found)]

    def of_app(self, app: str) -> list[Binding]:
        """The bindings of an app, oldest first. Errors: ``NotFound`` (``app_not_found``) if it has none."""
        found = self._by_app.get(app)
        if not found:
            raise NotFound(
                f"there is no app {shown(app)}: it is bound to no service; bind it with harbor bind-service NAME APP",
                code="app_not_found",
            )
        return list(found.values())

    def services_of(self, app: str) -> list[str]:
        """The ids of the services that an app is bound to, which may be none."""
        return list(self._by_app.get(app, ()))
