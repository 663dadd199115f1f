"""Bars of ratios, as an SVG by hand: a plotting library would be the largest thing that the benchmark installs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Final

__all__ = ["bars"]

_WIDTH: Final = 900
_LABEL: Final = 210
_ROW: Final = 20
_HEAD: Final = 34
_GAP: Final = 16
_COLOURS: Final = {"ours": "#d9660f", "starsessions": "#5b8db8", "Litestar": "#7fa66a"}


def bars(groups: Mapping[str, Mapping[str, float]]) -> str:
    """One block of bars for each group, with a line at 1. The scale is logarithmic: twice is as far from 1 as half."""
    height = sum(_HEAD + _ROW * len(group) + _GAP for group in groups.values()) + _GAP
    values = [value for group in groups.values() for value in group.values()]
    low, high = min([0.25, *values]), max([4.0, *values])

    def x(value: float) -> float:
        share = (math.log(max(value, low)) - math.log(low)) / (math.log(high) - math.log(low))
        return _LABEL + share * (_WIDTH - _LABEL - 70)

    parts, top = [], _GAP
    for title, group in groups.items():
        parts.append(f'<text x="8" y="{top + 18}" font-weight="bold">{escape(title)}</text>')
        top += _HEAD
        end = top + _ROW * len(group)
        for at, (name, value) in enumerate(group.items()):
            parts.append(_bar(name, value, x(1.0), x(value), top + at * _ROW))
        parts.append(f'<line x1="{x(1.0):.1f}" x2="{x(1.0):.1f}" y1="{top - 4}" y2="{end}" stroke="#222"/>')
        top = end + _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        f'font-size="13">\n<rect width="{_WIDTH}" height="{height}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _bar(name: str, value: float, one: float, end: float, top: int) -> str:
    colour = next((colour for who, colour in _COLOURS.items() if name.startswith(who)), "#999")
    left, width = min(one, end), max(abs(end - one), 1.0)
    return (
        f'<text x="{_LABEL - 8}" y="{top + 14}" text-anchor="end">{escape(name)}</text>'
        f'<rect x="{left:.1f}" y="{top + 3}" width="{width:.1f}" height="{_ROW - 6}" fill="{colour}"/>'
        f'<text x="{left + width + 5:.1f}" y="{top + 14}">{value:.2f}</text>'
    )
