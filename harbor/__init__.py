"""Harbor leases TCP and UDP ports to applications and forwards their traffic."""

from harbor import compiled

__version__ = "0.1.0"

is_compiled = compiled.prefer()
