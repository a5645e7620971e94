"""Latency distributions as an SVG: quantiles on the x axis, stretched towards the slowest, and ms on the y axis."""

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from tests.programs.bench.figures import Curve
from tests.programs.bench.load import QUANTILES

WIDTH: Final = 460
HEIGHT: Final = 300
MARGIN: Final = 52
COLUMNS: Final = 2
LEGEND_LINE: Final = 15
COLOURS: Final = ("#1769aa", "#b0413e", "#2e7d32", "#8e44ad", "#b7791f", "#455a64")
MARKS: Final = (0.5, 0.9, 0.99, 0.999, 0.9999)


def svg(curves: Sequence[Curve]) -> str:
    """One panel for each group of curves."""
    groups = list(dict.fromkeys(curve.group for curve in curves))
    rows = -(-len(groups) // COLUMNS)
    panels = []
    for number, group in enumerate(groups):
        x, y = number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT
        panel = _panel(group, [curve for curve in curves if curve.group == group])
        panels.append(f'<g transform="translate({x},{y})">{panel}</g>')
    width, height = COLUMNS * WIDTH, max(1, rows) * HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(panels)}</svg>\n"
    )


def _panel(title: str, curves: Sequence[Curve]) -> str:
    values = [max(ms, 1e-3) for curve in curves for ms in curve.ms]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
    high = max(high, low + 1)

    def at(quantile: float, ms: float) -> tuple[float, float]:
        x = MARGIN + (WIDTH - 2 * MARGIN) * -math.log10(1 - quantile) / 4
        y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (math.log10(max(ms, 1e-3)) - low) / (high - low)
        return x, y

    parts = [f'<text x="{MARGIN}" y="22" font-size="13" font-weight="bold">{escape(title)}</text>']
    for mark in MARKS:
        x, _ = at(mark, 1)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{MARGIN}" y2="{HEIGHT - MARGIN}" stroke="#ddd"/>')
        label = f"p{mark * 100:g}"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - MARGIN + 16}" text-anchor="middle">{label}</text>')
    for power in range(low, high + 1):
        _, y = at(0, 10.0**power)
        parts.append(f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g} ms</text>')
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, QUANTILES, curve.ms))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        y = MARGIN + 12 + LEGEND_LINE * number
        parts.append(f'<text x="{MARGIN + 10}" y="{y}" fill="{colour}">{escape(curve.name)}</text>')
    return "".join(parts)
