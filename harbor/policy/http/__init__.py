"""HTTP/1.1 as it passes a relay, without sockets: strict heads, counted bodies, who asked, and pages that say why."""

from harbor.policy.http.pages import redirect_to_https, refusal_page
from harbor.policy.http.refused import BackendRefused, HttpRefused
from harbor.policy.http.relay import End, HttpRelay

__all__ = ["BackendRefused", "End", "HttpRefused", "HttpRelay", "redirect_to_https", "refusal_page"]
