"""The submitter's node: it names, places and signs what a client hands over, and checks it before anything is kept."""

from __future__ import annotations

from attrs import evolve

from jcpeer.application.graph import check_graph
from jcpeer.application.manifest import Batch, Header, Placed, Seal, application_key
from jcpeer.application.task import BlobRef
from jcpeer.coordinator.events import SealReceived
from jcpeer.errors import GraphError, RemoteProtocolError, RequestError
from jcpeer.ids import AppId, digest_of
from jcpeer.membership.signed import sign
from jcpeer.node.applications import Applications
from jcpeer.node.hosting import ApplicationHost
from jcpeer.node.parts import Parts
from jcpeer.wire.codec import pack
from jcpeer.wire.messages import Signed
from jcpeer.wire.requests import AddTasks, PutBlob
from jcpeer.work.partial import PartialBlob

NAME_CHARACTERS_MAX = 200
SUBMITTED_S_MAX = 2.0**36
"""Beyond the year 4000; dates that no calendar shows would make every list of applications unreadable."""
ONE_COPY = "One copy: it waits while this node is down, and is lost if this machine's disk is."


class Submissions:
    """Open, fill and seal applications on behalf of clients of this node."""

    def __init__(self, parts: Parts, applications: Applications) -> None:
        self._parts = parts
        self._applications = applications
        self._arriving: dict[tuple[AppId, str], PartialBlob] = {}

    def _signed(self, value: Placed | Batch | Seal) -> Signed:
        return sign(value, self._parts.identity, self._parts.standing.membership.chain)

    def _host(self, app: AppId) -> ApplicationHost:
        host = self._applications.get(app)
        if host is None:
            raise RequestError(f"no application {app[:12]} was opened here; submit it again", kind="unknown")
        return host

    def open(self, header: Header) -> AppId:
        """The application of this header, opened now or before.

        Raises:
            RequestError: this node does not coordinate, or the name cannot be.
        """
        if not self._parts.config.coordinate:
            raise RequestError(
                f"node {self._parts.name} was started with --no-coordinate; hand the application to another node"
            )
        if not header.name.strip() or len(header.name) > NAME_CHARACTERS_MAX or not header.name.isprintable():
            raise RequestError(f"an application's name has 1 to {NAME_CHARACTERS_MAX} printable characters")
        if not 0 <= header.submitted_s <= SUBMITTED_S_MAX:
            raise RequestError(
                f"an application cannot be submitted at {header.submitted_s} s since 1970: set the clock"
            )
        header = evolve(header, user=self._parts.standing.membership.certificate.user)
        app = application_key(header, pack(header))
        if self._applications.get(app) is None:
            self._applications.open(self._signed(Placed(app, header, (self._parts.identity.node,))))
        return app

    async def put(self, request: PutBlob) -> None:
        """One piece of a blob.

        Raises:
            RequestError: the pieces do not follow each other, or are not what the blob's name says.
            StorageError: the disk is full.
        """
        host, store, blob = self._host(request.app), self._parts.store, request.blob
        store.pin(host.app, [blob.digest])
        if store.has(blob.digest):
            return
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

    async def add(self, request: AddTasks) -> None:
        """A batch; returns once it is journalled.

        Raises:
            RequestError: the tasks are no graph, or blobs that they read are not here.
        """
        host, store = self._host(request.app), self._parts.store
        state = host.machine.state
        if request.number not in state.batches:
            if state.sealed:
                raise RequestError(f"{state.header.name} is sealed: no task can be added")
            try:
                check_graph(request.tasks, known=lambda task: state.tasks[task].spec if task in state.tasks else None)
            except GraphError as error:
                raise RequestError(str(error)) from error
            _check_named(request)
            for digest, data in request.data.items():
                if digest_of(data) != digest:
                    raise RequestError(f"blob {digest[:12]} is not what its name says")
                store.put(data)
            store.pin(host.app, (each.digest for each in request.blobs))
            small = dict(request.data)
            absent: list[str] = []
            for blob in request.blobs:
                if blob.small and blob.digest not in small:
                    kept = host.small_blob(blob.digest)
                    if kept is not None:
                        small[blob.digest] = kept  # it was put, or came with another batch
                if not store.has(blob.digest):
                    absent.append(blob.digest[:12])
                elif store.size(blob.digest) != blob.size:
                    raise RequestError(f"blob {blob.digest[:12]} has {store.size(blob.digest)} bytes, not {blob.size}")
            if absent:
                raise RequestError(f"blobs {', '.join(absent[:3])} of batch {request.number} were not put first")
            batch = Batch(request.app, request.number, request.tasks, request.blobs)
            host.add_batch(batch, self._signed(batch), small)
        await host.settled()
        if request.number not in state.batches:
            # Another client, or a seal, was quicker by a moment; what was checked no longer held.
            raise RequestError(
                f"{state.header.name} took no batch {request.number}: it was sealed, or has one of these tasks"
            )

    async def seal(self, app: AppId, batches: int) -> None:
        """No more batches; returns once that is journalled.

        Raises:
            RequestError: batches are missing.
        """
        host = self._host(app)
        if not host.machine.state.sealed:
            missing = [str(each) for each in range(batches) if each not in host.machine.state.batches]
            if missing:
                raise RequestError(f"batches {', '.join(missing[:5])} have not come; submit again")
            host.post(SealReceived(self._signed(Seal(app, batches))))
        await host.settled()


def _check_named(request: AddTasks) -> None:
    """Raises: RequestError: a task reads a blob that the batch does not name, so that nobody would look after it."""
    named = {(each.digest, each.size) for each in request.blobs}
    for task in request.tasks:
        for item in task.inputs:
            source = item.source
            if isinstance(source, BlobRef) and (source.digest, source.size) not in named:
                raise RequestError(
                    f"task {task.id}: input {item.name!r} is blob {source.digest[:12]!r}, which the batch does not name"
                )
