"""A graph in the language of Graphviz, for whoever has its programs."""

from __future__ import annotations

from collections.abc import Iterator

from jcpeer.cli.drawing.figure import Figure
from jcpeer.cli.drawing.palette import EDGE, FRIENDS_MARK, PALETTE, TEXT


def draw_dot(figure: Figure, *, name: str) -> Iterator[str]:
    """The lines."""
    yield f"digraph {quoted(name)} {{"
    yield "  rankdir=LR;"
    yield f'  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11, fontcolor="{TEXT}"];'
    yield f'  edge [color="{EDGE}", arrowsize=0.6];'
    for index, each in enumerate(figure.vertices):
        colours = PALETTE[each.role]
        friends = f', penwidth=2, color="{FRIENDS_MARK}"' if each.has_friends else f', color="{colours.line}"'
        yield f'  t{index} [label={quoted(each.label)}, fillcolor="{colours.fill}"{friends}, tooltip="{each.role}"];'
    for index, each in enumerate(figure.vertices):
        for parent in each.parents:
            yield f"  t{parent} -> t{index};"
    yield "}"


def quoted(text: str) -> str:
    """A double-quoted string. A backslash is doubled, since labels have escapes of their own (`\\n`, `\\N`)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
