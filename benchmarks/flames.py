"""A flame graph as an SVG without scripts: the caller below, what it calls above it, as wide as the time it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Final
from zlib import crc32

__all__ = ["flame_graph"]

_WIDTH: Final = 1400
_ROW: Final = 17
_HEAD: Final = 34
#: Narrower than this, a call is not drawn.
_LEAST: Final = 0.0015
_PARTS: Final = ("scsession_secure", "layers", "commit", "stores")


@dataclass
class _Call:
    count: int = 0
    calls: dict[str, _Call] = field(default_factory=dict)


def flame_graph(title: str, stacks: Mapping[tuple[str, ...], int]) -> str:
    """The picture of counted stacks, outermost call first in each."""
    root = _Call()
    for stack, count in stacks.items():
        root.count += count
        at = root
        for name in stack:
            at = at.calls.setdefault(name, _Call())
            at.count += count
    depth = max(map(len, stacks), default=1)
    height = _HEAD + (depth + 1) * _ROW
    boxes = "\n".join(_boxes(root, 0, 0.0, root.count, height))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="monospace" '
        f'font-size="11">\n<rect width="{_WIDTH}" height="{height}" fill="#fff"/>\n'
        f'<text x="8" y="20" font-size="15">{escape(title)}</text>\n'
        f'<text x="{_WIDTH - 8}" y="20" text-anchor="end">orange: ours, blue: others</text>\n{boxes}\n</svg>\n'
    )


def _boxes(call: _Call, level: int, left: float, total: int, height: int) -> list[str]:
    found = []
    for name, inner in sorted(call.calls.items()):
        share = inner.count / total
        if share >= _LEAST:
            found.append(_box(name, share, left, height - (level + 1) * _ROW))
            found += _boxes(inner, level + 1, left, total, height)
        left += share
    return found


def _box(name: str, share: float, left: float, top: int) -> str:
    x, width = left * _WIDTH, share * _WIDTH
    ours = any(f"({part}/" in name for part in _PARTS)
    hue = (24 if ours else 205) + crc32(name.encode()) % 14
    room = int(width / 6.7)
    shown = escape(name[:room]) if room > 3 else ""
    return (
        f'<g><title>{escape(name)}: {share:.1%}</title><rect x="{x:.1f}" y="{top}" width="{max(width - 0.6, 0.4):.1f}" '
        f'height="{_ROW - 1}" fill="hsl({hue},{85 if ours else 55}%,{72 if ours else 82}%)"/>'
        f'<text x="{x + 2:.1f}" y="{top + 12}">{shown}</text></g>'
    )
