"""Of two nodes that coordinated without each other, the one that gives way hands on what only it had been given.

A submitter was told that the application is accepted; where the journal that stands lacks batches or the seal, they
come from the one that does not, as if from the submitter, who signed them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator

import structlog

from jcpeer.application.manifest import Batch
from jcpeer.application.task import BlobRef
from jcpeer.errors import RequestError
from jcpeer.ids import AppId, Digest, NodeId, short
from jcpeer.node.parts import Parts
from jcpeer.wire.codec import unpack
from jcpeer.wire.facts import Sealed, TasksAdded
from jcpeer.wire.requests import HomeRequest, ReplyBody, TakeBatch, TakeBlobs, TakeSeal

log = structlog.get_logger()

SMALL_BYTES_AT_ONCE = 1024 * 1024

Request = Callable[[NodeId, HomeRequest], Awaitable[ReplyBody]]


class HandingOn:
    """Tells another coordinator of batches and seals; what it has already counts once there."""

    def __init__(self, parts: Parts, request: Request) -> None:
        """`request`: the reply of that node, as of `Elsewhere.request`."""
        self._parts = parts
        self._request = request

    async def hand_on(self, app: AppId, *, after_index: int, to: NodeId) -> None:
        """All that came after this index of the journal; large blobs are fetched from here.

        Raises:
            UnreachableError: that node does not answer; it may have got some of it.
        """
        for fact in self.given(app, after_index=after_index):
            try:
                if isinstance(fact, Sealed):
                    await self._request(to, TakeSeal(app, fact.seal, handed_on=True))
                    continue
                for data in in_frames(self._small(app, unpack(fact.batch.payload, Batch).blobs)):
                    await self._request(to, TakeBlobs(app, data=data))
                await self._request(to, TakeBatch(app, fact.batch, handed_on=True))
            except RequestError as error:  # what came there instead stands
                log.info("not handed on", app=app, node=short(to), why=str(error))

    def given(self, app: AppId, *, after_index: int) -> list[TasksAdded | Sealed]:
        """What the submitter handed over after this index of the journal."""
        facts = (entry.fact for entry in self._parts.journal.read(app, after_index=after_index))
        return [each for each in facts if isinstance(each, TasksAdded | Sealed)]

    def _small(self, app: AppId, blobs: Iterable[BlobRef]) -> Iterator[tuple[Digest, bytes]]:
        """The small ones that are here: those of the journal, and those that came with another batch."""
        for blob in blobs:
            data = self._parts.journal.inline(app, blob.digest) if blob.small else None
            if data is None and blob.small:
                kept = self._parts.store.content(blob.digest)
                data = kept if isinstance(kept, bytes) else None
            if data is not None:
                yield blob.digest, data


def in_frames(blobs: Iterable[tuple[Digest, bytes]]) -> Iterator[dict[Digest, bytes]]:
    """Small blobs, as many at a time as a message takes."""
    data, size = dict[Digest, bytes](), 0
    for digest, content in blobs:
        data[digest] = content
        size += len(content)
        if size > SMALL_BYTES_AT_ONCE:
            yield data
            data, size = {}, 0
    if data:
        yield data
