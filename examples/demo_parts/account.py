"""What became of an application's tasks, and who did what, by the events that its coordinator committed."""

from __future__ import annotations

from collections import Counter

from attrs import define, field

from jcpeer.wire.requests import Happened


@define
class Share:
    """What one node did: attempts that it finished, and for how long these ran, in seconds."""

    finished: int = 0
    busy_s: float = 0.0


@define
class Account:
    """Feed every event to `add`, in order. Nodes go by their names."""

    shares: dict[str, Share] = field(factory=dict)
    where: dict[str, str] = field(factory=dict)
    """Finished tasks, and the node whose result stands."""
    attempts_lost: list[str] = field(factory=list)
    """Tasks that were under way when their node went."""
    losers: set[str] = field(factory=set)
    """The nodes of these attempts."""
    outputs_lost: list[str] = field(factory=list)
    """Tasks that had finished, and ran again because their outputs went with a node."""
    taken_over_at_s: float | None = None
    """When another node began to coordinate it, in seconds since 1970."""
    end: str = ""

    @property
    def attempts_finished(self) -> int:
        return sum(share.finished for share in self.shares.values())

    @property
    def lost(self) -> bool:
        """Something has to run again."""
        return bool(self.attempts_lost or self.outputs_lost)

    def results_of(self, node: str) -> int:
        """How many tasks have their result from this node."""
        return Counter(self.where.values())[node]

    def add(self, event: Happened) -> None:
        if event.kind == "ended":
            self.end = event.text
        if event.kind == "took_over" and self.taken_over_at_s is None:
            self.taken_over_at_s = event.at_s
        if event.task is None:
            return
        match event.kind:
            case "finished":
                assert event.node is not None
                share = self.shares.setdefault(event.node.name, Share())
                share.finished += 1
                share.busy_s += event.ran_s
                self.where[event.task] = event.node.name
            case "lost":
                assert event.node is not None
                self.attempts_lost.append(event.task)
                self.losers.add(event.node.name)
            case "output_lost":
                self.outputs_lost.append(event.task)
                del self.where[event.task]
            case _:
                pass
