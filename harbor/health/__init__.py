"""Health checks: questions to backends, asked at their time, each apart from the others."""

from harbor.health.prober import Prober

__all__ = ["Prober"]
