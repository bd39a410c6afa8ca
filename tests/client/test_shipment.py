from pathlib import Path

import pytest

from jcpeer.application.task import BlobRef, Input
from jcpeer.client.shipment import BATCH_TASKS_MAX, PIECE_BYTES, parents_first, pieces, ships
from jcpeer.errors import GraphError, StorageError
from jcpeer.ids import Digest, digest_of
from tests.client.loaded import application, blob, command, output_of


def test_parents_never_travel_behind_their_children_whatever_order_they_came_in() -> None:
    makers = [command(f"make{n}", outputs=(f"f{n}",)) for n in range(BATCH_TASKS_MAX)]
    readers = [command(f"read{n}", output_of(f"make{n}", f"f{n}")) for n in range(BATCH_TASKS_MAX)]
    known: set[str] = set()
    for shipment in ships(parents_first([*readers, *makers])):
        known |= {task.id for task in shipment.tasks}
        assert all(known >= set(task.parents()) for task in shipment.tasks)
    assert len(known) == 2 * BATCH_TASKS_MAX


def test_a_small_blob_rides_once_and_is_named_by_every_batch_that_reads_it() -> None:
    shared = blob(b"shared")
    tasks = [command(f"t{n}", Input("in", shared)) for n in range(BATCH_TASKS_MAX + 1)]
    first, second = ships(tasks)
    assert (first.aboard, second.aboard) == ((shared,), ())
    assert first.blobs == second.blobs == (shared,)


def test_a_batch_ends_before_its_data_would_weigh_more_than_a_mebibyte() -> None:
    tasks = [command(f"t{n}", Input("in", BlobRef(Digest(f"{n:064}"), 60_000))) for n in range(100)]
    weights = [sum(each.size for each in shipment.aboard) for shipment in ships(tasks)]
    assert sum(weights) == 100 * 60_000
    assert max(weights) <= 1024 * 1024
    assert len(weights) < 8


def test_what_a_single_task_reads_beyond_a_mebibyte_goes_in_batches_of_its_own_before() -> None:
    parts = [BlobRef(Digest(f"{n:064}"), 60_000) for n in range(100)]
    merge = command("merge", *(Input(f"part{n}", each) for n, each in enumerate(parts)))
    _, *before, shipment = ships([command("one"), merge])
    assert (shipment.tasks, shipment.aboard, list(shipment.blobs)) == ((merge,), (), parts)
    assert [blob for each in before for blob in each.aboard] == parts
    assert all(each.tasks == () and each.blobs == each.aboard for each in before)
    assert max(sum(blob.size for blob in each.aboard) for each in before) <= 1024 * 1024
    assert [each.number for each in before] == list(range(1, shipment.number))


def test_a_task_too_large_for_a_frame_is_named_before_anything_is_sent() -> None:
    inputs = tuple(Input(f"part{n}", blob(b"")) for n in range(60_000))
    with pytest.raises(GraphError, match="task merge: 60000 inputs"):
        list(ships([command("merge", *inputs)]))


@pytest.mark.parametrize("later", [b"x" * PIECE_BYTES, b"y" * (PIECE_BYTES + 8), b""])
def test_a_file_whose_size_changed_since_it_was_named_is_not_sent(tmp_path: Path, later: bytes) -> None:
    data = b"x" * (PIECE_BYTES + 5)
    path = tmp_path / "big"
    path.write_bytes(data)
    loaded = application(files={digest_of(data): path})
    assert b"".join(pieces(loaded, blob(data))) == data
    path.write_bytes(later)
    with pytest.raises(StorageError, match=r"big changed while it was being submitted"):
        list(pieces(loaded, blob(data)))
