"""Frozen values, valid once built. Imports nothing of Harbor but ``harbor.errors``."""

from harbor.model.binding import Binding, BindingView
from harbor.model.certificate import CertificateView
from harbor.model.event import Event
from harbor.model.policy import Policy, ProxyProtocol, Removal
from harbor.model.reason import Drop, Reason
from harbor.model.service import (
    Address,
    Backend,
    BackendView,
    Exposure,
    Protocol,
    Service,
    State,
    Status,
    Tls,
)
from harbor.model.tls import Identity, TlsRules, TlsTerms, UnknownName, Verify
from harbor.model.traffic import Opening, Route, ServiceCounters, SessionQuery, SessionView
from harbor.model.views import PortsView, ServiceView, ServiceWish

__all__ = [
    "Address",
    "Backend",
    "BackendView",
    "Binding",
    "BindingView",
    "CertificateView",
    "Drop",
    "Event",
    "Exposure",
    "Identity",
    "Opening",
    "Policy",
    "PortsView",
    "Protocol",
    "ProxyProtocol",
    "Reason",
    "Removal",
    "Route",
    "Service",
    "ServiceCounters",
    "ServiceView",
    "ServiceWish",
    "SessionQuery",
    "SessionView",
    "State",
    "Status",
    "Tls",
    "TlsRules",
    "TlsTerms",
    "UnknownName",
    "Verify",
]
