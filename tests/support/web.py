"""nginx as a backend: one process, its own configuration, everything it writes in the test's directory."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from support.programs import Programs

CONFIGURATION: Final = """
daemon off; master_process off; pid {root}/nginx-{port}.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile on; keepalive_requests 100000; client_max_body_size 0; {temporary}
  server {{
    listen {listen}; root {root}/files; add_header X-Backend {port};
    {more}
    dav_methods PUT; client_body_in_file_only off;
  }}
}}
"""


def nginx(
    servers: Programs,
    root: Path,
    port: int,
    *,
    host: str = "127.0.0.1",
    tls: bool = False,
    listening: str = "",
    more: str = "",
) -> subprocess.Popen[bytes]:
    """Serve ``root/files``, and store there what is PUT. ``listening`` and ``more`` are words of nginx's own."""
    (root / "files").mkdir(exist_ok=True)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {root}/{kind}-{port};" for kind in kinds)
    listen = f"{f'[{host}]' if ':' in host else host}:{port}{' ssl' if tls else ''} {listening}"
    configuration = root / f"nginx-{port}.conf"
    configuration.write_text(CONFIGURATION.format(root=root, port=port, temporary=temporary, listen=listen, more=more))
    return servers.start("nginx", "-p", root, "-c", configuration, "-e", "stderr", port=port)
