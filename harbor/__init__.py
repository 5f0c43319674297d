"""Harbor leases TCP and UDP ports to applications and forwards their traffic."""

__version__ = "0.1.0"
