"""An HTTPS site: a service of a node, gunicorn behind it, and a certificate that an authority has issued."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.app_node import AppNode
from support.pairs import Made, authority, issued_by
from support.programs import Programs

TOUR: Final = Path(__file__).parents[2] / "docs" / "tour"
NAME: Final = "localhost"
SERVICE: Final = "site-https"


@dataclass(frozen=True)
class Site:
    """Where it is. ``ca`` is the certificate of ``by``, who issues its certificates, as a file."""

    node: AppNode
    port: int
    ca: Path
    by: Made

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.port}/"

    def renew(self) -> None:
        """Show another certificate from now on."""
        certify(self.node, SERVICE, self.by)


def certify(node: AppNode, service: str, by: Made) -> None:
    """Upload a certificate for a service that was just issued."""
    made = issued_by(by, NAME, "127.0.0.1")
    node.ask("PUT", f"/v1/certificates/{service}", {"certificate": made.chain, "key": made.key})


def site_of(node: AppNode, servers: Programs, scratch: Path, app: int) -> Site:
    """Set one up on a node, with the app of the tour at port ``app``."""
    servers.start(
        "gunicorn", "--chdir", TOUR, "--bind", f"127.0.0.1:{app}", "--threads", 4, "--keep-alive", 600,
        "--no-control-socket", "app:app", port=app,
    )  # fmt: skip
    by, ca = authority(), scratch / "ca.pem"
    ca.write_text(by.own)
    site = Site(node, node.create(SERVICE, app), ca, by)
    site.renew()
    return site
