"""The colours of drawings: of equal lightness, told apart by people of every kind of sight, readable in print."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from jcpeer.application.roles import Role


@frozen
class Colours:
    """Of a box."""

    fill: str
    line: str


PALETTE: Mapping[Role, Colours] = {
    "initial": Colours("#dbeafe", "#3b82c4"),
    "isolated": Colours("#e7f3e1", "#5b9a47"),
    "shared": Colours("#fdecd2", "#d08620"),
}
FRIENDS_MARK = "#8e5bb5"
TEXT = "#1f2933"
FAINT_TEXT = "#66727f"
EDGE = "#9aa5b1"
