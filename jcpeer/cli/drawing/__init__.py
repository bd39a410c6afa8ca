"""Graphs of tasks as people see them: in text, as SVG, as DOT."""

from jcpeer.cli.drawing.boxes import draw_boxes
from jcpeer.cli.drawing.dot import draw_dot
from jcpeer.cli.drawing.figure import Figure, Vertex, abbreviated, grouped, one_by_one
from jcpeer.cli.drawing.svg import draw_svg

__all__ = ["Figure", "Vertex", "abbreviated", "draw_boxes", "draw_dot", "draw_svg", "grouped", "one_by_one"]
