"""The outcome as a picture: each row's figures as multiples of the best peer's. One SVG that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from benchmarks.results import HARBOR, Line, number

MOST: Final = 3.0  # times the best peer; what is beyond stands at the edge with its number
LABELS: Final = 400  # pixels for the names of the rows
WIDTH: Final = 460  # pixels from 0 to MOST
STEP: Final = 24  # pixels from row to row
TOP: Final = 58
EDGE: Final = 70
# Told apart by shape too, for those who see colours differently and for print.
SHAPES: Final = (
    '<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" class="peer"/>',
    '<rect x="{left:.1f}" y="{top:.1f}" width="8" height="8" class="peer"/>',
    '<path d="M{x:.1f} {top:.1f}l5 8.5h-10z" class="peer"/>',
    '<path d="M{x:.1f} {top:.1f}l4.5 4.5l-4.5 4.5l-4.5 -4.5z" class="peer"/>',
)
STYLE: Final = """\
text { font: 12px system-ui, sans-serif; fill: #24292f } .page { fill: #fff }
.quiet { fill: #57606a } .grid { stroke: #d0d7de } .best { stroke: #57606a; stroke-dasharray: 3 3 }
.harbor { fill: #0969da } .peer { fill: #fff; stroke: #24292f; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .page { fill: #0d1117 }
  .quiet { fill: #8d96a0 } .grid { stroke: #30363d } .best { stroke: #8d96a0 }
  .harbor { fill: #4493f8 } .peer { fill: #0d1117; stroke: #e6edf3 }
}
"""


def plot(lines: Sequence[Line], titles: Mapping[str, str]) -> str:
    """An SVG. ``titles``: what the peers that count are called, by name, Harbor among them."""
    rivals = [name for name in titles if name != HARBOR]
    shown = [line for line in lines if line.ratio(HARBOR, rivals) is not None]
    height = TOP + STEP * len(shown) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LABELS + WIDTH + EDGE} {height}" role="img">',
        "<title>Harbor and its peers, row by row, as multiples of the best peer; lower is better</title>",
        f"<style>{STYLE}</style>",
        '<rect width="100%" height="100%" class="page"/>',  # a page may be light where its reader prefers dark
        *_legend(rivals, titles),
        *_axis(height),
    ]
    for index, line in enumerate(shown):
        parts += _row(line, rivals, TOP + STEP * index + STEP / 2)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(rivals: Sequence[str], titles: Mapping[str, str]) -> list[str]:
    parts = [
        f'<rect x="{LABELS}" y="9" width="26" height="10" rx="2" class="harbor"/>',
        _text(LABELS + 32, 18, "Harbor"),
    ]
    for index, name in enumerate(rivals):
        x = LABELS + 100 + 85 * index
        parts += [_mark(index, x, 14), _text(x + 10, 18, titles[name])]
    return parts


def _axis(height: float) -> list[str]:
    parts = []
    for multiple in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0):
        x, kind = _x(multiple), "best" if multiple == 1 else "grid"
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{height - 24}" class="{kind}"/>')
        name = "best peer" if multiple == 1 else f"{multiple:g}{' or more' * (multiple == MOST)}"
        parts.append(_text(x, TOP - 14, name, "middle", "quiet"))
    return [*parts, _text(LABELS + WIDTH, height - 8, "multiples of the best peer; lower is better", "end", "quiet")]


def _row(line: Line, rivals: Sequence[str], y: float) -> list[str]:
    ratio = line.ratio(HARBOR, rivals)
    assert ratio is not None
    end = _x(ratio)
    parts = [
        _text(LABELS - 10, y + 4, f"{line.figure.title}, {line.figure.unit}", "end"),
        f'<rect x="{LABELS}" y="{y - 6:.1f}" width="{max(end - LABELS, 1):.1f}" height="12" rx="2" class="harbor"/>',
        _text(LABELS + WIDTH + 14, y + 4, number(ratio)),
    ]
    for index, name in enumerate(rivals):
        multiple = line.ratio(name, rivals)
        if multiple is not None:
            parts.append(_mark(index, _x(multiple), y))
    return parts


def _x(multiple: float) -> float:
    return LABELS + WIDTH * min(multiple, MOST) / MOST


def _mark(index: int, x: float, y: float) -> str:
    return SHAPES[index % len(SHAPES)].format(x=x, y=y, left=x - 4, top=y - 4.5)


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(text)}</text>'
