"""A user's own module, beside the script that imports it: it travels with the tasks that use it."""

from __future__ import annotations

import os
from pathlib import Path


class TooLarge(Exception):
    pass


def double(number: int) -> int:
    return 2 * number


def refuse(number: int) -> int:
    raise TooLarge(f"{number} is too large")


def need_a_package() -> None:
    import no_such_package  # type: ignore[import-not-found]  # that is what it is for

    no_such_package.call()


def vanish() -> None:
    os._exit(3)


def await_end(gate: str) -> int:
    """Return once the gate is open."""
    return len(Path(gate).read_bytes())


def print_much(number: int) -> int:
    print("x" * 100 * 1024)
    return number
