"""What runs in the worker for `map` with a chunk size; apart, so that a worker loads nothing else of the client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def call_each(function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> list[T]:
    """The results of these calls, in order."""
    return [function(*each) for each in calls]
