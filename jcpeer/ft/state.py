"""What one copy of an application's journal knows and has promised, whichever its role at present; and who of the
others is in reach."""

from __future__ import annotations

from attrs import define, field, frozen

from jcpeer.application.manifest import Header, Seat
from jcpeer.errors import LocalProtocolError
from jcpeer.ft.events import Effect, Promise, Sure
from jcpeer.ft.log import Log
from jcpeer.ids import AppId, Epoch, NodeId
from jcpeer.net.events import Proof
from jcpeer.wire.messages import Signed


@frozen
class Lost:
    """Out of reach since then. `proof` as in `net.events.PeerDown`."""

    since_s: float
    proof: Proof

    @property
    def proven(self) -> bool:
        """The process is gone; otherwise that is a guess."""
        return self.proof in ("refused", "left")


@define
class Reach:
    """To whom a connection stands, and who was lost. Whoever is in neither was never heard of."""

    up: set[NodeId] = field(factory=set)
    _lost: dict[NodeId, Lost] = field(factory=dict)

    def note_up(self, node: NodeId) -> None:
        self.up.add(node)
        self._lost.pop(node, None)

    def note_lost(self, node: NodeId, proof: Proof, *, now_s: float) -> None:
        """A connection that parted says nothing of the other's life."""
        self.up.discard(node)
        if proof == "parted":
            return
        since_s = self._lost[node].since_s if node in self._lost else now_s
        self._lost[node] = Lost(since_s, proof)

    def lost(self, node: NodeId) -> Lost | None:
        return self._lost.get(node)

    def keep(self, nodes: set[NodeId]) -> None:
        """Forget the losses of all others."""
        for node in self._lost.keys() - nodes:
            del self._lost[node]


@define
class CopyState:
    """Changed by the parts of `ft.replica` only."""

    app: AppId
    me: Seat
    placed: Signed
    header: Header
    log: Log
    promised: Epoch | None
    """No entry and no vote of a lower epoch any more."""
    kept_promise: Epoch | None
    """And so much of that is on the disk."""
    unsure: bool
    """What was once kept here may be missing: it does not count before it has caught up with a coordinator, but where
    all seats vote (`candidacy`)."""
    new: bool = False
    """And whatever was counted for earlier is forgotten: it counts for nothing at all before that."""
    retired: bool = False
    reach: Reach = field(factory=Reach)
    counter_max: int = 1
    """The highest counter of an epoch that anybody spoke of; the first is the first seat's, heard of or not."""

    def promise(self, epoch: Epoch) -> list[Effect]:
        """Raise the promise to this epoch, where it is not there yet."""
        if self.promised is not None and epoch < self.promised:
            raise LocalProtocolError(f"a promise of {epoch} after one of {self.promised}")
        self.note(epoch)
        if epoch == self.promised:
            return []
        self.promised = epoch
        return [Promise(epoch)]

    def catch_up(self) -> list[Effect]:
        """What this copy has is what counts."""
        was_unsure = self.unsure
        self.unsure = self.new = False
        return [Sure()] if was_unsure else []

    def holds(self, epoch: Epoch) -> bool:
        """The promise of this epoch is on the disk, so that something may be said that rests on it."""
        return self.kept_promise is not None and self.kept_promise >= epoch

    def note(self, epoch: Epoch | None) -> None:
        """Somebody spoke of this epoch."""
        if epoch is not None:
            self.counter_max = max(self.counter_max, epoch.counter)

    @property
    def seated(self) -> bool:
        """The latest set has this very copy."""
        return self.me in self.log.latest.seats

    @property
    def others(self) -> tuple[NodeId, ...]:
        """The other nodes of the latest set, in rank order."""
        return tuple([node for node in self.log.latest.nodes if node != self.me.node])

    def order_after(self, coordinator: NodeId | None) -> list[NodeId]:
        """Who is to take over from this coordinator, first to last: rank order, from it on and around."""
        nodes = list(self.log.latest.nodes)
        if coordinator not in nodes:
            return nodes
        at = nodes.index(coordinator)
        return nodes[at + 1 :] + nodes[:at]

    def rank_after(self, coordinator: NodeId | None) -> int:
        """How many of those who are to take over before this node may still live."""
        rank = 0
        for node in self.order_after(coordinator):
            if node == self.me.node:
                break
            rank += self.reach.lost(node) is None
        return rank
