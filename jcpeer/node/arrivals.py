"""Blobs that a client hands over piece by piece."""

from __future__ import annotations

from jcpeer.errors import RemoteProtocolError, RequestError
from jcpeer.ids import AppId, Digest
from jcpeer.wire.requests import PutBlob
from jcpeer.work.blobs import BlobStore
from jcpeer.work.partial import PartialBlob


class Arrivals:
    """What has come of each blob so far."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._arriving: dict[tuple[AppId, Digest], PartialBlob] = {}

    async def put(self, request: PutBlob) -> bool:
        """Take one piece; True where the whole blob is in the store now.

        Raises:
            RequestError: the pieces do not follow each other, or are not what the blob's name says.
            StorageError: the disk is full.
        """
        store, blob = self._store, request.blob
        if store.has(blob.digest):
            return True
        key = (request.app, blob.digest)
        if request.offset == 0 and (stale := self._arriving.pop(key, None)) is not None:
            stale.discard()
            stale.close()
        partial = self._arriving.get(key)
        try:
            if partial is None:
                partial = self._arriving[key] = await store.receiving(blob)
                if request.offset == 0 and partial.offset:
                    partial.discard()  # of an earlier client, which we cannot know to have meant the same offset
                    partial.close()
                    partial = self._arriving[key] = await store.receiving(blob)
            if request.offset != partial.offset:
                raise RequestError(f"blob {blob.digest[:12]}: bytes at {request.offset}, expected {partial.offset}")
            partial.write(request.data)
            if partial.complete:
                del self._arriving[key]
                with partial:
                    partial.finish()
        except RemoteProtocolError as error:
            if (spoilt := self._arriving.pop(key, None)) is not None:
                spoilt.close()
            raise RequestError(str(error)) from error
        return store.has(blob.digest)
