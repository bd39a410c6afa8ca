"""How an application is cut for the way: which blobs go ahead, and which tasks travel together.

Large blobs go first, in pieces; small ones ride in the first batch that names them, or in batches of their own before
it, where a single task reads more of them than a batch may weigh. A batch stays near 1 MiB, far below the limit of a
frame, so that no reader ever waits long behind one. A parent is never in a later batch than its child, whatever order
the tasks were given in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from attrs import frozen

from jcpeer.application.graph import check_graph
from jcpeer.application.manifest import OnFailure
from jcpeer.application.task import BlobRef, Command, Task
from jcpeer.errors import GraphError, StorageError
from jcpeer.ids import Digest, TaskId, digest_of

BATCH_BYTES = 1024 * 1024
BATCH_TASKS_MAX = 1000
PIECE_BYTES = 1024 * 1024
TASK_BYTES_MAX = 8 * 1024 * 1024
"""A task described by more than this (some 50 000 inputs) would not fit a frame, neither here nor on its way on."""


class Loaded(Protocol):
    """A checked application with what it reads, as every loader makes it."""

    @property
    def name(self) -> str: ...
    @property
    def on_failure(self) -> OnFailure: ...
    @property
    def tasks(self) -> Sequence[Task]: ...
    @property
    def files(self) -> Mapping[Digest, Path]: ...
    @property
    def data(self) -> Mapping[Digest, bytes]: ...


@frozen
class Shipment:
    """One batch: its tasks, all blobs that they read, and which of these ride along. One without tasks brings what
    the next ones read."""

    number: int
    tasks: tuple[Task, ...]
    blobs: tuple[BlobRef, ...]
    aboard: tuple[BlobRef, ...]


def boxes(blobs: Iterable[BlobRef]) -> Iterator[list[BlobRef]]:
    """These blobs, as many together as a batch may weigh."""
    box: list[BlobRef] = []
    room = BATCH_BYTES
    for blob in blobs:
        room -= blob.size
        if box and (room < 0 or len(box) == BATCH_TASKS_MAX):
            yield box
            box, room = [], BATCH_BYTES - blob.size
        box.append(blob)
    if box:
        yield box


def blobs_of(tasks: Iterable[Task]) -> tuple[BlobRef, ...]:
    """What these tasks read that no task makes, each once, in order of first mention."""
    return tuple(
        dict.fromkeys(each.source for task in tasks for each in task.inputs if isinstance(each.source, BlobRef))
    )


def ships(tasks: Iterable[Task], *, number: int = 0, there: Iterable[Digest] = ()) -> Iterator[Shipment]:
    """The batches in which these tasks travel, made as they are asked for.

    Args:
        tasks: Parents before children.
        number: That of the first batch.
        there: Blobs that need not travel again.

    Raises:
        GraphError: a task is too large to describe in one frame.
    """
    aboard_before = set(there)
    batch: list[Task] = []
    aboard: dict[BlobRef, None] = {}
    weight = 0
    for task in tasks:
        task_bytes = described_bytes(task)
        if task_bytes > TASK_BYTES_MAX:
            raise GraphError(f"task {task.id}: {len(task.inputs)} inputs are too many; merge them in several steps")
        fresh = [
            blob for blob in blobs_of([task]) if blob.small and blob.digest not in aboard_before and blob not in aboard
        ]
        more = task_bytes + sum(blob.size for blob in fresh)
        if batch and (weight + more > BATCH_BYTES or len(batch) == BATCH_TASKS_MAX):
            yield _shipment(number, batch, aboard)
            aboard_before.update(blob.digest for blob in aboard)
            batch, aboard, weight, number = [], {}, 0, number + 1
        if more - task_bytes > BATCH_BYTES:
            for box in boxes(fresh):
                yield Shipment(number, (), tuple(box), tuple(box))
                number += 1
            aboard_before.update(blob.digest for blob in fresh)
            fresh, more = [], task_bytes
        batch.append(task)
        aboard.update(dict.fromkeys(fresh))
        weight += more
    if batch:
        yield _shipment(number, batch, aboard)


def _shipment(number: int, batch: Sequence[Task], aboard: Iterable[BlobRef]) -> Shipment:
    return Shipment(number, tuple(batch), blobs_of(batch), tuple(aboard))


def parents_first(tasks: Sequence[Task]) -> Sequence[Task]:
    """The same tasks, parents before children; the given order where it is already one.

    Raises:
        GraphError: there is no such order.
    """
    seen: set[TaskId] = set()
    for task in tasks:
        if not seen.issuperset(task.parents()):
            break
        seen.add(task.id)
    else:
        return tasks
    by_id = {task.id: task for task in tasks}
    return [by_id[each] for each in check_graph(tasks).order]


def described_bytes(task: Task) -> int:
    """About how many bytes the task takes in a frame; packing it to find out would cost more than sending it."""
    size = 200 + len(task.id)
    size += sum(150 + len(each.name) for each in task.inputs)
    size += sum(150 + len(each) for each in task.outputs)  # with their digests, once they are reported
    size += sum(10 + len(each) for each in task.after)
    size += sum(10 + len(key) + len(value) for key, value in task.needs.labels.items())
    if isinstance(task.work, Command):
        size += sum(10 + len(each) for each in task.work.argv)
        size += sum(10 + len(key) + len(value) for key, value in task.work.env.items())
    return size


def content(loaded: Loaded, blob: BlobRef) -> bytes:
    """A small blob's bytes.

    Raises:
        StorageError: its file is gone or was changed.
    """
    data = loaded.data.get(blob.digest)
    if data is not None:
        return data
    path = _path(loaded, blob)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    if digest_of(data) != blob.digest:
        raise changed(path)
    return data


def cut(data: bytes) -> Iterator[bytes]:
    """These bytes in pieces; none are one empty piece."""
    for start in range(0, max(len(data), 1), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]


def pieces(loaded: Loaded, blob: BlobRef) -> Iterator[bytes]:
    """A large blob's bytes, cut.

    Raises:
        StorageError: its file is gone or has another size by now.
    """
    data = loaded.data.get(blob.digest)
    if data is not None:
        yield from cut(data)
        return
    path = _path(loaded, blob)
    left = blob.size
    try:
        with path.open("rb") as file:
            while True:
                piece = file.read(min(PIECE_BYTES, left))
                left -= len(piece)
                yield piece
                if left == 0:
                    if file.read(1):
                        raise changed(path)
                    return
                if not piece:
                    raise changed(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def changed(path: Path) -> StorageError:
    return StorageError(f"{path} changed while it was being submitted; submit again")


def _unreadable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be read: {error.strerror}")


def _path(loaded: Loaded, blob: BlobRef) -> Path:
    try:
        return loaded.files[blob.digest]
    except KeyError:
        raise GraphError(
            f"application {loaded.name}: an input with digest {blob.digest[:12]} came without bytes"
        ) from None
