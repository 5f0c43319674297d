"""The command line. Whatever is slow to import (aiohttp, rich, pydantic, the daemon) is imported by who needs it."""

from __future__ import annotations

import click

from harbor.cli import apps, backends, certificates, container, local, node, running, services, sessions
from harbor.cli.group import Commands

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Harbor leases TCP and UDP ports to applications and forwards their traffic.

    Commands talk to the node at HARBOR_URL with the token in HARBOR_TOKEN; without these, to the Unix socket of the
    node on this machine, in the state_dir of its configuration.

    \b
    A first session:
      harbor demo                                look around
      harbor serve &                             run a node
      harbor create-service my-port              lease a port
      harbor register my-port 10.0.0.5:8080      send its traffic there
      harbor services                            see how it is doing
      harbor bind-service my-port web            give an app its credentials
      harbor env web                             print them as its environment
    """


for _command in (
    local.serve,
    local.demo,
    local.check_config,
    services.create_service,
    services.services,
    services.service,
    services.update_service,
    services.delete_service,
    apps.bind_service,
    apps.unbind_service,
    apps.env,
    apps.token,
    backends.register,
    backends.deregister,
    backends.drain,
    backends.backends,
    certificates.cert,
    running.run,
    container.https_proxy,
    sessions.sessions,
    sessions.kill,
    sessions.whois,
    node.events,
    node.ports,
    node.node,
    local.version,
):
    main.add_command(_command)
