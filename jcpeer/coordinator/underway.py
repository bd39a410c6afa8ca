"""The two ends of the stream that tells replicas which attempts are at which participants: soft knowledge, never
journalled nor acknowledged, by which a successor knows what it need not begin anew.

What gets lost of it is missing, no more: an attempt that nobody knew of is met in its participant's `Confirm`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator

from jcpeer.ids import AppId, AttemptName, Epoch, NodeId
from jcpeer.wire.replication import Underway, UnderwayAttempt

ATTEMPTS_PER_FRAME_MAX = 5000
ENDS_ALONE_MIN = 100
"""Fewer ends wait for the next attempt that is given: a successor finds them in the journal, too."""


class UnderwayNews:
    """The coordinator's end: what has changed since the replicas were last told.

    An attempt has ended for them when what became of it is committed: before, it may be told again by whoever ran it.
    """

    def __init__(self) -> None:
        self._given: dict[AttemptName, UnderwayAttempt] = {}
        self._ended: dict[AttemptName, UnderwayAttempt] = {}
        self._ending: deque[tuple[int, dict[AttemptName, UnderwayAttempt]]] = deque()
        """What ended, with the index of the entry that tells of it at the latest."""
        self._committed_ends: list[AttemptName] = []

    def given(self, attempt: UnderwayAttempt) -> None:
        self._ended.pop(attempt.attempt, None)  # it has moved
        self._given[attempt.attempt] = attempt

    def ended(self, attempt: UnderwayAttempt) -> None:
        self._ended[attempt.attempt] = attempt

    def take(self, app: AppId, epoch: Epoch, *, last_index: int, committed: int) -> list[Underway]:
        """What is to be told now; it counts as told."""
        if self._ended:
            self._ending.append((last_index, self._ended))
            self._ended = {}
        while self._ending and self._ending[0][0] <= committed:
            self._committed_ends += self._ending.popleft()[1]
        if not self._given and len(self._committed_ends) < ENDS_ALONE_MIN:
            return []
        given, self._given = self._given, {}
        ended, self._committed_ends = self._committed_ends, []
        return list(_frames(app, epoch, given.values(), ended, whole=False))

    def ending(self) -> Iterator[UnderwayAttempt]:
        """What has ended without its end being committed."""
        return (each for _, part in (*self._ending, (0, self._ended)) for each in part.values())

    def drop(self) -> None:
        """Nobody is to be told."""
        self._given.clear()
        self._ended.clear()
        self._ending.clear()
        self._committed_ends.clear()


def whole(app: AppId, epoch: Epoch, attempts: Iterable[UnderwayAttempt]) -> list[Underway]:
    """All that is under way, for a replica that knows nothing of it, or what is past."""
    return list(_frames(app, epoch, attempts, (), whole=True)) or [Underway(app, epoch, whole=True)]


def _frames(
    app: AppId, epoch: Epoch, given: Iterable[UnderwayAttempt], ended: Iterable[AttemptName], *, whole: bool
) -> Iterator[Underway]:
    given, ended = tuple(given), tuple(ended)
    for start in range(0, max(len(given), len(ended)), ATTEMPTS_PER_FRAME_MAX):
        end = start + ATTEMPTS_PER_FRAME_MAX
        yield Underway(app, epoch, given[start:end], ended[start:end], whole=whole and start == 0)


class UnderwayMemory:
    """A replica's end: what it was told last."""

    def __init__(self) -> None:
        self._epoch: Epoch | None = None
        self._given: dict[AttemptName, UnderwayAttempt] = {}
        self._at: Counter[NodeId] = Counter()
        """How many there are at each participant."""

    def heard(self, message: Underway) -> None:
        """From the coordinator of that epoch. What it says before all of it was told once is of no use."""
        if message.whole:
            self._epoch = message.epoch
            self._given.clear()
            self._at.clear()
        if message.epoch != self._epoch:
            return
        for each in message.given:
            self._leave(self._given.get(each.attempt))
            self._given[each.attempt] = each
            self._at[each.node] += 1
        for name in message.ended:
            self._leave(self._given.pop(name, None))

    def _leave(self, attempt: UnderwayAttempt | None) -> None:
        if attempt is not None:
            self._at[attempt.node] -= 1
            if not self._at[attempt.node]:
                del self._at[attempt.node]

    def busy(self, node: NodeId) -> bool:
        """Something is under way there, as far as was told."""
        return node in self._at

    def known(self) -> tuple[UnderwayAttempt, ...] | None:
        """What is under way where, as far as was told; None where nothing is known."""
        return tuple(self._given.values()) if self._epoch is not None else None
