"""A call on the grid as a `concurrent.futures.Future`, and what can become of it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, NoReturn, Protocol, TypeVar

from attrs import frozen

from jcpeer.application.references import TaskRef

T = TypeVar("T")


@frozen
class Value:
    """The call returned."""

    value: Any


@frozen
class Raised:
    """The call raised, or cannot be had."""

    error: BaseException


@frozen
class Cancelled:
    """The call never came to run."""


CANCELLED = Cancelled()
FutureOutcome = Value | Raised | Cancelled


class Feed(Protocol):
    """Whoever knows how a sent call stands."""

    def cancel(self, future: GridFuture[Any]) -> bool: ...
    def is_running(self, future: GridFuture[Any]) -> bool: ...


class GridFuture(Future[T]):
    """A call on the grid. As an argument of another call of the same executor it means its value.

    Attributes:
        ref: The task that it is; None where there is none, since the call could not be packed.
    """

    def __init__(self, feed: Feed, ref: TaskRef | None) -> None:
        super().__init__()
        self.feed = feed
        self.ref = ref

    def __reduce__(self) -> NoReturn:
        raise TypeError("a future must be an argument itself, not hidden inside one: pass it openly, or its result()")

    def cancel(self) -> bool:
        """Cancel the call unless it has started; asks the node where it was sent already."""
        return self.feed.cancel(self)

    def running(self) -> bool:
        """Whether a node runs the call at this moment; asks the node."""
        return not self.done() and self.feed.is_running(self)

    def settle(self, outcome: FutureOutcome) -> None:
        """Give it its outcome; called once, by whoever took it out of the feed."""
        match outcome:
            case Value():
                self.set_result(outcome.value)
            case Raised():
                self.set_exception(outcome.error)
            case Cancelled():
                super().cancel()
                self.set_running_or_notify_cancel()  # only this tells `wait` and `as_completed`
