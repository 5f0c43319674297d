"""Harbor beside HAProxy, nginx, Envoy and Traefik, row by row: ``python -m benchmarks --help``."""
