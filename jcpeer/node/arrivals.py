"""Blobs that a client hands over piece by piece."""

from __future__ import annotations

import trio
from attrs import define, field

from jcpeer.errors import RemoteProtocolError, RequestError
from jcpeer.ids import AppId, Digest
from jcpeer.wire.requests import PutBlob
from jcpeer.work.blobs import BlobStore
from jcpeer.work.partial import PartialBlob


@define
class _Arrival:
    """What has come of one blob so far; whoever brings more has a turn."""

    turn: trio.Lock = field(factory=trio.Lock)
    waiting: int = 0
    partial: PartialBlob | None = None


class Arrivals:
    """What has come of each blob so far."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._arriving: dict[tuple[AppId, Digest], _Arrival] = {}

    async def put(self, request: PutBlob) -> bool:
        """Take one piece; True where the whole blob is in the store now.

        Raises:
            RequestError: the pieces do not follow each other, or are not what the blob's name says.
            StorageError: the disk is full.
        """
        key = (request.app, request.blob.digest)
        arrival = self._arriving.setdefault(key, _Arrival())
        arrival.waiting += 1
        try:
            # A client that went away and came back may begin anew while the disk is still at its last piece.
            async with arrival.turn:
                return await self._put(request, arrival)
        finally:
            arrival.waiting -= 1
            if arrival.partial is None and not arrival.waiting:
                del self._arriving[key]

    async def _put(self, request: PutBlob, arrival: _Arrival) -> bool:
        store, blob = self._store, request.blob
        if store.has(blob.digest):
            return True
        if request.offset == 0 and arrival.partial is not None:
            arrival.partial.discard()
            arrival.partial.close()
            arrival.partial = None
        try:
            if arrival.partial is None:
                arrival.partial = await store.receiving(blob)
                if request.offset == 0 and arrival.partial.offset:
                    # Of an earlier client, which we cannot know to have meant the same offset.
                    arrival.partial.discard()
                    arrival.partial.close()
                    arrival.partial = await store.receiving(blob)
            partial = arrival.partial
            if request.offset != partial.offset:
                raise RequestError(f"blob {blob.digest[:12]}: bytes at {request.offset}, expected {partial.offset}")
            await partial.write(request.data)
            if partial.complete:
                arrival.partial = None
                with partial:
                    partial.finish()
        except RemoteProtocolError as error:
            if arrival.partial is not None:
                arrival.partial.close()
                arrival.partial = None
            raise RequestError(str(error)) from error
        return store.has(blob.digest)
