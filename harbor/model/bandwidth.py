"""How fast sessions may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from harbor.model.kinds import Size, Wrong, setting, settings_of

FASTEST: Final = 1 << 40  # bytes per second; more than any network card


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bytes per second, up from clients to backends and down to clients; None: as fast as it goes."""

    session_up: int | None = setting(Size(1, FASTEST), "Bytes per second that a session sends to its backend.", None)
    session_down: int | None = setting(Size(1, FASTEST), "Bytes per second that a session sends to its client.", None)
    service_up: int | None = setting(Size(1, FASTEST), "The same for all sessions together, to backends.", None)
    service_down: int | None = setting(Size(1, FASTEST), "The same for all sessions together, to clients.", None)

    def __post_init__(self) -> None:
        if (self.session_up, self.session_down, self.service_up, self.service_down) == (None,) * 4:
            raise Wrong(f"it limits nothing; give it {', '.join(settings_of(Bandwidth))}, or leave it out")
