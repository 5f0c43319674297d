"""Chromium at a port whose TLS the node ends: whom it trusts, where it is sent, and its WebSocket."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.app_node import AppNode
from support.browser import Browser, Unreachable
from support.https_site import NAME, TOUR, Site, certify
from support.programs import Programs


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    return Browser(tmp_path)


def test_a_page_is_shown_to_who_trusts_the_authority_and_plain_http_leads_there(site: Site, browser: Browser) -> None:
    browser.trust(site.ca)
    page = browser.page(f"http://{NAME}:{site.port}/")
    assert f"you asked by https on port {site.port}" in page


def test_who_does_not_trust_the_authority_sees_nothing(site: Site, browser: Browser) -> None:
    with pytest.raises(Unreachable, match="ERR_CERT_AUTHORITY_INVALID"):
        browser.page(site.url)


def test_a_page_talks_over_its_WebSocket(
    site: Site, node: AppNode, browser: Browser, servers: Programs, ports: range
) -> None:
    servers.start(sys.executable, TOUR / "chat.py", ports[0], port=ports[0])
    port = node.create("chat-https", ports[0])
    certify(node, "chat-https", site.by)
    browser.trust(site.ca)
    with browser.tab(f"https://{NAME}:{port}/") as tab:
        tab.await_title("HEARD OVER A WEBSOCKET")
