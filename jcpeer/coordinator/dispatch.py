"""The seam of dispatch policies: who is given which ready task, and by whom.

The rest of the coordinator tells a policy what happened and performs what it wants; it knows nothing of which policy
is at work. All of them leave outcomes, losses and cancelling to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from jcpeer.application.manifest import Dispatch
from jcpeer.coordinator.assigning import Assigning
from jcpeer.coordinator.attempts import Attempts
from jcpeer.coordinator.events import Effect
from jcpeer.coordinator.grabbing import Grabbing
from jcpeer.coordinator.once import Once
from jcpeer.coordinator.orders import Orders
from jcpeer.coordinator.recorder import Recorder
from jcpeer.coordinator.relaying import Relaying
from jcpeer.coordinator.roster import Roster
from jcpeer.ids import NodeId, TaskId


class Policy(Protocol):
    """Decides who is given what. Nothing is asked of it before the coordinator has settled, nor after the end."""

    def place(self, *, now_s: float) -> list[Effect]:
        """No further event waits: see that ready tasks come to run."""

    def heads(self) -> Iterator[TaskId]:
        """Tasks that stand for all that wait to be given to somebody, as far as needs go."""

    def look(self, *, now_s: float) -> list[Effect]:
        """Time has passed."""

    def wake_s(self) -> float:
        """When `look` may have something to do."""

    def claimed(self, node: NodeId, tasks: tuple[TaskId, ...], *, now_s: float) -> list[Effect]:
        """A participant that finished a parent of these shared tasks would start them."""

    def take(self, node: NodeId, tasks: tuple[TaskId, ...], *, now_s: float) -> list[Effect]:
        """A participant has room for these, which were offered."""

    def lost(self, node: NodeId) -> None:
        """This participant is gone."""

    @property
    def offers(self) -> bool:
        """Whether something is on offer that participants may still take."""

    def holds(self, task: TaskId) -> bool:
        """Whether this ready task waits with the policy; for checks."""


POLICIES: Mapping[Dispatch, Callable[[Recorder, Roster, Attempts, Orders, Once], Policy]] = {
    "assign": Assigning,
    "grab": Grabbing,
    "relay": Relaying,
}
