"""What a task needs of its node, as people write it: the same keys in TOML and as options in Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from jcpeer.application.fields import Fields
from jcpeer.application.quantities import parse_bytes
from jcpeer.application.task import Needs
from jcpeer.config import read_labels

NEEDS_KEYS = ("cpus", "memory", "gpus", "disk", "max_cost", "labels")


def read_needs(fields: Fields, labels: Mapping[str, str]) -> Needs:
    """The needs in this table; keys that are not there have their defaults.

    Raises:
        GraphError: a value is impossible; the text names it.
    """
    return Needs(
        cpus=fields.whole("cpus", 1, at_least=1),
        memory_bytes=_size(fields, "memory"),
        labels=labels,
        gpus=fields.whole("gpus", 0, at_least=0),
        disk_bytes=_size(fields, "disk"),
        cost_max=_price(fields, "max_cost"),
    )


def application_labels(fields: Fields) -> dict[str, str]:
    """The labels that an application has, by which owners of nodes choose.

    Raises:
        GraphError: one cannot be.
    """
    try:
        return read_labels(fields.text_table("labels"))
    except ValueError as error:
        fields.refuse(f"labels: {error}")


def quantity(fields: Fields, key: str, parse: Callable[[object], float]) -> float | None:
    """A size or a duration; None where it is not there.

    Raises:
        GraphError: it is none.
    """
    value = fields.values.get(key)
    if value is None:
        return None
    try:
        return parse(value)
    except ValueError as error:
        fields.refuse(f"{key}: {error}")


def _size(fields: Fields, key: str) -> int:
    return int(quantity(fields, key, parse_bytes) or 0)


def _price(fields: Fields, key: str) -> float | None:
    value = fields.values.get(key)
    if isinstance(value, str):  # what a variable makes of a number
        with suppress(ValueError):
            value = float(value)
    return None if value is None else Fields(fields.where, {key: value}).number(key)
