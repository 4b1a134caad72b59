"""Charts as SVG: boxes and texts on a background of their own, so that they can be read on light and dark pages."""

from __future__ import annotations

import xml.etree.ElementTree as ET

WIDTH, MARGIN = 720, 16
"""Pixels: the width of every chart, and the space around its content."""
BLUE, GRAY, RED, INK, PAPER = "#2563eb", "#94a3b8", "#dc2626", "#1e293b", "#f8fafc"


class Drawing:
    """A chart that is being drawn.

    :param title: what it shows, at its top.
    :param height: pixels.
    """

    def __init__(self, title: str, height: int) -> None:
        box = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {WIDTH} {height}", "role": "img", "fill": INK}
        self._root = ET.Element("svg", {**box, "font-family": "system-ui, sans-serif"})
        ET.SubElement(self._root, "title").text = title
        self.box(0, 0, WIDTH, height, PAPER, round_by=8)
        self.text(MARGIN, 26, title, size=14, weight=600)

    def box(self, x: float, y: float, width: float, height: float, color: str, *, round_by: float = 2) -> None:
        """Draw a rectangle."""
        sizes = {"x": x, "y": y, "width": round(width, 1), "height": height, "rx": round_by}
        ET.SubElement(self._root, "rect", {**{name: f"{size:g}" for name, size in sizes.items()}, "fill": color})

    def text(self, x: float, y: float, text: str, *, size: int = 13, weight: int = 400, color: str = INK) -> None:
        """Write a text that begins at ``x``, with its baseline at ``y``."""
        place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "font-size": str(size), "font-weight": str(weight), "fill": color}
        ET.SubElement(self._root, "text", place).text = text

    def svg(self) -> str:
        """Return the chart."""
        ET.indent(self._root, " ")
        return ET.tostring(self._root, encoding="unicode") + "\n"
