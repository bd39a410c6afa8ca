"""How much was said in a simulated world, for its reports."""

from __future__ import annotations

from jcpeer.wire.codec import encode

SAMPLED_FIRST = 8
SAMPLED_EVERY = 64


class Traffic:
    """Messages by class, and their bytes.

    Where messages are handed over by reference their bytes are an estimate: of each class the first few and then one in
    `SAMPLED_EVERY` are measured.

    Attributes:
        messages: How many of each class were sent, in the order in which the classes first were.
        connections: How many came up.
    """

    def __init__(self) -> None:
        self.messages: dict[str, int] = {}
        self.connections = 0
        self._measured: dict[str, int] = {}
        self._measured_bytes: dict[str, int] = {}

    def count(self, message: object, size: int | None = None, *, times: int = 1) -> None:
        """A message that was sent, of so many bytes where that is known."""
        kind = type(message).__name__
        number = self.messages.get(kind, 0)
        self.messages[kind] = number + times
        if size is None and (number < SAMPLED_FIRST or number % SAMPLED_EVERY == 0):
            size = len(encode(message))
        if size is not None:
            self._measured[kind] = self._measured.get(kind, 0) + 1
            self._measured_bytes[kind] = self._measured_bytes.get(kind, 0) + size

    @property
    def bytes(self) -> dict[str, int]:
        """Of each class, frames and all."""
        return {
            kind: round(number * self._measured_bytes[kind] / self._measured[kind])
            for kind, number in self.messages.items()
        }

    @property
    def messages_in_all(self) -> int:
        return sum(self.messages.values())

    @property
    def bytes_in_all(self) -> int:
        return sum(self.bytes.values())
