"""Who may order what: the highest reign of each application that was proven to this node.

Epoch 1 needs no proof, since the submitter signed whose it is. Of every other epoch the coordinator shows the `Reign`
before anything else of it, and whoever acts for it passes it on; what was forgotten here is refused, and shown again.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from jcpeer.application.manifest import Placed, ReplicaSet
from jcpeer.errors import MembershipError
from jcpeer.ids import AppId, Epoch, NodeId, short
from jcpeer.rdv.mandate import open_mandate
from jcpeer.rdv.placement import open_placed, usurpation
from jcpeer.values import evolve
from jcpeer.wire.mandates import Mandate
from jcpeer.wire.replication import Reign

KEPT_MAX = 10_000
SIGNATURES_MAX = 50_000
"""In all that is kept: a mandate has a few, but as many as a hostile member likes in an application of its own."""


@frozen
class Known:
    """A reign that holds. `proven` is the set that voted for it; in epoch 1 the one that the submitter signed."""

    epoch: Epoch
    placed: Placed
    proven: ReplicaSet
    reign: Reign
    """As it came, for whoever has to be shown it."""

    @property
    def coordinator(self) -> NodeId:
        return self.epoch.node

    @property
    def mandate(self) -> Mandate | None:
        return self.reign.mandate


class Reigns:
    """Judges reigns, and remembers the highest of each application, those that were of use last."""

    def __init__(self, root: Callable[[], bytes]) -> None:
        """`root`: the public root key of the grid that the node is in at present."""
        self._root = root
        self._known: dict[AppId, Known] = {}
        """The one that was of use last at the end."""
        self._signatures = 0

    def hear(self, node: NodeId, reign: Reign) -> Known:
        """Judge a reign, and remember it if none is known that is higher.

        Raises:
            MembershipError: it does not hold; the text says why.
        """
        known = self.known(reign.app)
        if known is not None and known.reign == evolve(reign, invited=False):
            return known
        found = self._judged(reign)
        if node != found.coordinator and reign.mandate is None:
            raise MembershipError(
                f"node …{short(node)} says that another one coordinates, and has nothing to show for it"
            )
        if known is None or known.epoch <= found.epoch:
            self._remember(found)
        return found

    def _judged(self, reign: Reign) -> Known:
        root = self._root()
        placed, _ = open_placed(reign.placed, root=root, now_s=None)
        if placed.app != reign.app:
            raise MembershipError("a reign over another application than its submitter signed")
        proven = placed.first_set
        if reign.mandate is not None:
            if reign.mandate.epoch != reign.epoch:
                raise MembershipError("a reign by the mandate of another epoch")
            proven = open_mandate(reign.mandate, placed, root=root)
        elif reign.epoch.counter > 1:
            raise MembershipError(f"{placed.header.name:.80}: epoch {reign.epoch.counter} without a mandate")
        elif why := usurpation(placed, reign.epoch.node, reign.epoch):
            raise MembershipError(f"{placed.header.name:.80}: node …{short(reign.epoch.node)} {why}")
        return Known(reign.epoch, placed, proven, evolve(reign, invited=False))

    def known(self, app: AppId) -> Known | None:
        """The highest."""
        if (found := self._known.pop(app, None)) is not None:
            self._known[app] = found
        return found

    def may_order(self, placed: Placed, node: NodeId, epoch: Epoch) -> str:
        """Why this node may not give orders in that epoch, as far as is known here; empty where it may."""
        known = self.known(placed.app)
        if known is not None and epoch < known.epoch:
            return f"coordinates no longer: epoch {known.epoch.counter} has begun"
        return usurpation(placed, node, epoch, proven=known is not None and known.epoch == epoch)

    def _remember(self, known: Known) -> None:
        if (before := self._known.pop(known.reign.app, None)) is not None:
            self._signatures -= _signatures(before.mandate)
        self._known[known.reign.app] = known
        self._signatures += _signatures(known.mandate)
        while len(self._known) > KEPT_MAX or (self._signatures > SIGNATURES_MAX and len(self._known) > 1):
            dropped = self._known.pop(next(iter(self._known)))
            self._signatures -= _signatures(dropped.mandate)


def _signatures(mandate: Mandate | None) -> int:
    if mandate is None:
        return 0
    return len(mandate.votes) + sum(len(each.statements) for each in mandate.links)


class Shown:
    """Whom a reign was shown to, so that each node is shown it once."""

    def __init__(self) -> None:
        self._nodes: set[NodeId] = set()
        self._epoch: Epoch | None = None

    def first(self, node: NodeId, epoch: Epoch) -> bool:
        """Whether this node has not been shown that epoch; from now on it has."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._nodes.clear()
        new = node not in self._nodes
        self._nodes.add(node)
        return new

    def forget(self, node: NodeId) -> None:
        """It was lost, or says that it does not know: it has to be shown again."""
        self._nodes.discard(node)
