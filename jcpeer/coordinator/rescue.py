"""Outputs that a node alone holds, and that are fetched from it while it leaves.

Otherwise their tasks would run again. What is not here in time is lost with the node, as if it had died.
"""

from __future__ import annotations

from jcpeer.coordinator.events import Collect, Effect, Send
from jcpeer.coordinator.recorder import Recorder
from jcpeer.coordinator.results import Results
from jcpeer.ids import Digest, NodeId
from jcpeer.wire.messages import Stay


class Rescue:
    """Soft knowledge: a successor is told of the leaving anew."""

    def __init__(self, recorder: Recorder, results: Results) -> None:
        self._recorder = recorder
        self._results = results
        self._from: dict[Digest, NodeId] = {}
        self._stay_for: dict[NodeId, dict[Digest, None]] = {}
        """What each leaving node was told, whatever came of it."""

    def begin(self, node: NodeId) -> list[Effect]:
        """This node leaves, and stays a little for what it is told that we need."""
        needed = {each.digest: each for each in self._results.only_at(node)}
        effects: list[Effect] = [Send(node, Stay(self._recorder.app, self._recorder.epoch, tuple(needed)))]
        self._stay_for.setdefault(node, {}).update(dict.fromkeys(needed))
        for digest, blob in needed.items():
            if digest not in self._from and not self._results.collects(digest):
                effects.append(Collect(blob, (node,)))
            self._from[digest] = node
        return effects

    def ended(self, digest: Digest) -> list[Effect]:
        """The blob is here, or could not be had: nobody stays for it any longer."""
        node = self._from.pop(digest, None)
        if node is None:
            return []
        return [Send(node, Stay(self._recorder.app, self._recorder.epoch, (), fetched=(digest,)))]

    def gone(self, node: NodeId) -> None:
        """It has left, or died: nothing is said to it any more."""
        for digest in self._stay_for.pop(node, ()):
            if self._from.get(digest) == node:
                del self._from[digest]
