"""The journal: what is reported, what survives, what it refuses; on both disks alike."""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from jcpeer.application.task import BlobRef
from jcpeer.errors import ConfigError, LocalProtocolError, StorageError
from jcpeer.ft import sqlite_disk
from jcpeer.ft.disk import Append, Begin, Disk, Durability, Write
from jcpeer.ft.journal import Journal, Written, open_journal
from jcpeer.ft.memory_disk import MemoryDisk
from jcpeer.ft.sqlite_disk import SqliteDisk
from jcpeer.ids import AppId, Epoch, NodeId, TaskId, digest_of
from jcpeer.values import evolve
from jcpeer.wire.facts import Brought, Ended, Entry, Fact, Finished, OutputLost
from jcpeer.wire.messages import Outcome, Output

ME = NodeId("me")
EPOCH = Epoch(1, ME)
LATER = Epoch(2, NodeId("other"))
APP = AppId("a" * 40)
OTHER = AppId("b" * 40)

OpenDisk = Callable[[], Disk]


@pytest.fixture(params=["memory", "sqlite"])
def open_disk(request: pytest.FixtureRequest, tmp_path: Path) -> OpenDisk:
    """Called again after the disk was closed, it gives the same contents."""
    if request.param == "sqlite":
        return lambda: SqliteDisk(tmp_path / "state" / "journal.sqlite")
    memory = MemoryDisk()
    return lambda: memory


def lost(task: str) -> Fact:
    return OutputLost(TaskId(task), "its node left")


def entries(first: int, *facts: Fact, epoch: Epoch = EPOCH) -> list[Entry]:
    return [Entry(epoch, index, 1000.0 + index, fact) for index, fact in enumerate(facts, first)]


def brought(index: int, *data: bytes) -> list[Brought]:
    return [Brought(index, digest_of(each), each) for each in data]


def finished(data: bytes) -> Finished:
    output = Output("@value", BlobRef(digest_of(data), len(data)), data)
    return Finished(ME, Outcome(TaskId("count"), EPOCH, 1, None, (output,), (), 0, 0.0, 0.0, 0.0))


async def committed(journal: Journal, app: AppId = APP) -> None:
    """Everything queued so far is on the disk."""
    await journal.promise(app, EPOCH)


async def test_committed_entries_come_back_after_a_restart(open_disk: OpenDisk) -> None:
    written = entries(1, *(lost(str(each)) for each in range(600)), Ended("ok"))
    async with open_journal(open_disk()) as journal:
        journal.append(APP, written[:300])
        journal.append(OTHER, entries(1, lost("x")))
        journal.append(APP, written[300:])
        await committed(journal)
        assert list(journal.read(APP, after_index=598)) == written[598:]
        name = journal.id
    async with open_journal(open_disk()) as journal:
        assert journal.applications() == [APP, OTHER]
        assert list(journal.read(APP)) == written
        assert list(journal.read(OTHER)) == entries(1, lost("x"))
        assert journal.last_index(APP) == 601
        assert journal.written_index(APP) == 601
        assert journal.id == name


async def test_what_is_queued_when_the_block_is_left_is_still_committed(open_disk: OpenDisk) -> None:
    with trio.move_on_after(0):
        async with open_journal(open_disk()) as journal:
            journal.append(APP, entries(1, lost("x")))
            await trio.sleep(1)
    async with open_journal(open_disk()) as journal:
        assert list(journal.read(APP)) == entries(1, lost("x"))


async def test_data_of_small_outputs_is_kept_apart_and_had_at_once(open_disk: OpenDisk) -> None:
    data, given = b"a small result", b"a small input"
    async with open_journal(open_disk()) as journal:
        journal.append(APP, entries(1, finished(data)), brought(1, given))
        assert journal.inline(APP, digest_of(data)) == data
        await committed(journal)
        for journal_then in (journal, Journal(journal._disk)):
            assert journal_then.inline(APP, digest_of(data)) == data
            assert journal_then.inline(APP, digest_of(given)) == given
            assert journal_then.inline(OTHER, digest_of(data)) is None
            assert journal_then.inline(APP, digest_of(b"other")) is None
        (entry,) = journal.read(APP)
        assert isinstance(entry.fact, Finished)
        assert entry.fact.outcome.outputs == (evolve(finished(data).outcome.outputs[0], data=None),)


async def test_commits_are_reported_by_group_in_order(autojump_clock: MockClock) -> None:
    reports: list[tuple[float, AppId, Written]] = []
    async with open_journal(MemoryDisk(delay_s=1.0)) as journal:
        journal.report_commits(lambda app, written: reports.append((trio.current_time(), app, written)))
        journal.append(APP, entries(1, lost("a")))
        await trio.sleep(0.5)
        for index in (2, 3):
            journal.append(APP, entries(index, lost("a")))
        journal.append(OTHER, entries(1, lost("a")))
        await trio.sleep(5)
    assert reports == [(1.0, APP, Written(1)), (2.0, APP, Written(3)), (2.0, OTHER, Written(1))]


async def test_crash_takes_the_group_that_was_being_written_and_nothing_else(autojump_clock: MockClock) -> None:
    disk = MemoryDisk(delay_s=1.0)
    async with open_journal(disk) as journal:
        journal.append(APP, entries(1, lost("a")))
        await trio.sleep(1.5)
        journal.append(APP, entries(2, lost("a")))
        await trio.sleep(0.5)
        found = disk.after_crash()
    async with open_journal(found) as journal:
        assert list(journal.read(APP)) == entries(1, lost("a"))
        assert journal.last_index(APP) == 1


async def test_truncated_and_forgotten_entries_are_gone(open_disk: OpenDisk) -> None:
    async with open_journal(open_disk()) as journal:
        journal.append(APP, entries(1, lost("a"), lost("b"), lost("c")))
        journal.append(OTHER, entries(1, finished(b"data")))
        journal.truncate(APP, after_index=1)
        journal.append(APP, entries(2, Ended("ok")))
        journal.forget(OTHER)
        assert journal.inline(OTHER, digest_of(b"data")) is None
    async with open_journal(open_disk()) as journal:
        assert list(journal.read(APP)) == entries(1, lost("a"), Ended("ok"))
        assert journal.applications() == [APP]
        journal.forget(APP)
        journal.append(APP, entries(1, Ended("ok")))
        assert (journal.last_index(APP), journal.written_index(APP)) == (1, 0)


async def test_promise_outlives_the_node_and_is_never_lowered(open_disk: OpenDisk) -> None:
    async with open_journal(open_disk()) as journal:
        assert journal.promised(APP) is None
        await journal.promise(APP, Epoch(2, ME))
        await journal.promise(APP, Epoch(2, ME))
    async with open_journal(open_disk()) as journal:
        assert journal.promised(APP) == Epoch(2, ME)
        with pytest.raises(LocalProtocolError, match="promise"):
            await journal.promise(APP, EPOCH)


async def test_where_applications_are_to_live_outlives_the_node_until_it_is_forgotten(open_disk: OpenDisk) -> None:
    async with open_journal(open_disk()) as journal:
        await journal.place(APP, b"there")
        await journal.place(APP, b"no, here")
        await journal.place(OTHER, b"there")
        journal.unplace(OTHER)
    async with open_journal(open_disk()) as journal:
        assert journal.decisions() == {APP: b"no, here"}
        assert journal.applications() == [], "of which no journal is kept"


async def test_entry_that_does_not_follow_the_last_one_is_our_bug(open_disk: OpenDisk) -> None:
    async with open_journal(open_disk()) as journal:
        with pytest.raises(LocalProtocolError, match=r"entry 2 .* after entry 0"):
            journal.append(APP, entries(2, lost("a")))
        journal.append(APP, entries(1, lost("a")))
        for index in (1, 3):
            with pytest.raises(LocalProtocolError, match=f"entry {index} .* after entry 1"):
                journal.append(APP, entries(index, lost("a")))
        journal.append(APP, entries(2, lost("a"), epoch=LATER))
        with pytest.raises(LocalProtocolError, match=r"entry 3 .* epoch 1, .* before of epoch 2"):
            journal.append(APP, entries(3, lost("a")))


async def test_second_process_on_the_same_journal_is_refused(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path / "journal")
    with pytest.raises(ConfigError, match=r"\(process \d+\) already uses .*--name"):
        SqliteDisk(tmp_path / "journal")
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600
    disk.close()
    SqliteDisk(tmp_path / "journal").close()


async def test_promises_and_what_asks_for_it_are_synced_and_other_groups_are_not(tmp_path: Path) -> None:
    class Watched(SqliteDisk):
        """Notes how each group is written."""

        def _apply(self, write: Write) -> None:
            seen.append((type(write).__name__, self._writer.execute("PRAGMA synchronous").fetchone()[0]))

    seen: list[tuple[str, int]] = []
    normal, full = 1, 2
    for durability, usual in (("process", normal), ("disk", full)):
        seen.clear()
        disk = Watched(tmp_path / durability, durability="disk" if durability == "disk" else "process")
        async with open_journal(disk) as journal:
            journal.begin(APP)  # with it the file says that it may lose something
            await journal.place(APP, b"here")
            assert seen == [("Begin", full), ("Place", full)]
            seen.clear()
            journal.append(APP, entries(1, lost("a")))
            await journal.place(APP, b"here")  # another way to wait for the group
            journal.append(APP, entries(2, lost("a")), synced=True)
            await journal.place(APP, b"here")
            await journal.promise(APP, EPOCH)
        assert seen == [
            ("Append", usual),
            ("Place", usual),
            ("Append", full),
            ("Place", full),
            ("Promise", full),
        ]


async def test_full_disk_ends_the_block_with_one_clear_line(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path / "journal")
    disk._writer.execute("PRAGMA max_page_count = 20")

    async def write_much() -> None:
        async with open_journal(disk) as journal:
            journal.append(APP, entries(1, *(lost("x" * 1000) for _ in range(200))))
            await trio.sleep_forever()

    with pytest.raises(StorageError, match=r"no space left for the journal .*: free some and start again"):
        await write_much()
    async with open_journal(SqliteDisk(tmp_path / "journal")) as journal:
        assert journal.applications() == []


@pytest.mark.parametrize("damage", ["header", "fact"])
async def test_damaged_file_is_one_clear_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "journal"
    async with open_journal(SqliteDisk(path)) as journal:
        journal.append(APP, entries(1, lost("a")))
    if damage == "header":
        path.write_bytes(b"not a database" * 1000)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE entry SET fact = x'00'")
        connection.close()
    with pytest.raises(StorageError, match=r"journal .* is damaged .*: move it away"):
        list(Journal(SqliteDisk(path)).read(APP))


@pytest.mark.parametrize("version", [1, 99])
async def test_journal_of_another_version_is_left_alone(tmp_path: Path, version: int) -> None:
    SqliteDisk(tmp_path / "journal").close()
    connection = sqlite3.connect(tmp_path / "journal")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(ConfigError, match="another version"):
        SqliteDisk(tmp_path / "journal")


async def test_entries_gather_while_a_group_is_written() -> None:
    class Slow(MemoryDisk):
        async def commit(self, writes: Sequence[Write]) -> None:
            sizes.append(len(writes))
            await released.wait()
            await super().commit(writes)

    sizes: list[int] = []
    released = trio.Event()
    async with open_journal(Slow()) as journal:
        for index in range(1, 101):
            journal.append(APP, entries(index, lost("a")))
            if index == 1:
                await wait_all_tasks_blocked()
        released.set()
    assert sizes == [2, 99]


# --- for copies


async def written(journal: Journal) -> None:
    """Everything queued so far is on the disk."""
    await journal.place(AppId("f" * 40), b"")


async def test_an_application_can_have_a_copy_without_an_entry(open_disk: OpenDisk) -> None:
    async with open_journal(open_disk()) as journal:
        journal.begin(APP)
        journal.begin(APP)
    async with open_journal(open_disk()) as journal:
        assert journal.applications() == [APP]
        assert (journal.last_index(APP), journal.shape(APP)) == (0, ())


async def test_shape_of_a_log_is_known_at_once_and_after_a_restart(open_disk: OpenDisk) -> None:
    async with open_journal(open_disk()) as journal:
        journal.append(OTHER, entries(1, lost("a")))
        journal.append(APP, entries(1, lost("a"), lost("b"), lost("c")))
        journal.append(APP, entries(4, lost("d"), epoch=LATER))
        journal.append(APP, entries(5, lost("e"), epoch=Epoch(3, ME)))
        assert journal.shape(APP) == ((1, EPOCH), (4, LATER), (5, Epoch(3, ME)))
        journal.truncate(APP, after_index=4)
        assert journal.shape(APP) == ((1, EPOCH), (4, LATER))
        journal.truncate(APP, after_index=2)
        assert journal.shape(APP) == ((1, EPOCH),)
        journal.append(APP, entries(3, lost("f"), lost("g"), epoch=LATER))
    async with open_journal(open_disk()) as journal:
        assert journal.shape(APP) == ((1, EPOCH), (3, LATER))
        assert journal.shape(OTHER) == ((1, EPOCH),)
        assert journal.shape(AppId("c" * 40)) == ()


async def test_what_is_taken_back_is_not_reported_as_written_even_if_it_gets_there(autojump_clock: MockClock) -> None:
    reports: list[tuple[float, Written]] = []
    async with open_journal(MemoryDisk(delay_s=1.0)) as journal:
        journal.report_commits(lambda app, written: reports.append((trio.current_time(), written)))
        journal.append(APP, entries(1, lost("a"), lost("b"), lost("c")))
        await trio.sleep(0.5)
        journal.truncate(APP, after_index=1)
        journal.append(APP, entries(2, lost("d"), lost("e"), epoch=LATER))
        await trio.sleep(1)  # entries 2 and 3 of the first epoch are on the disk, and will not stay
        assert [each.index for each in journal.read(APP)] == [1, 2, 3]
        assert journal.written_index(APP) == 1
        await trio.sleep(1)
        assert journal.written_index(APP) == 3
        journal.truncate(APP, after_index=2)
        journal.promise_soon(APP, LATER)
        assert (journal.written_index(APP), journal.promised(APP)) == (2, LATER)
        await trio.sleep(2)
    assert reports == [(1.0, Written(1)), (2.0, Written(3)), (3.5, Written(2, LATER))]


async def test_of_a_copy_that_was_forgotten_and_begun_anew_only_the_new_one_is_reported(
    autojump_clock: MockClock,
) -> None:
    reports: list[tuple[float, Written]] = []
    async with open_journal(MemoryDisk(delay_s=1.0)) as journal:
        journal.report_commits(lambda app, written: reports.append((trio.current_time(), written)))
        journal.append(APP, entries(1, lost("a"), lost("b")))
        await trio.sleep(0.5)
        journal.append(APP, entries(3, lost("c")))
        journal.forget(APP)
        await trio.sleep(1)
        journal.append(APP, entries(1, lost("d"), epoch=LATER))
        await trio.sleep(2)
    assert reports == [(3.0, Written(1))]


async def test_committed_index_goes_along_with_the_next_group_and_is_never_truncated(open_disk: OpenDisk) -> None:
    async with open_journal(open_disk()) as journal:
        journal.append(APP, entries(1, lost("a"), lost("b"), lost("c")))
        with pytest.raises(LocalProtocolError, match=r"entry 4 .* 3 is the last"):
            journal.note_committed(APP, 4)
        journal.note_committed(APP, 2)
        journal.note_committed(APP, 1)
        assert journal.committed(APP) == 2
        with pytest.raises(LocalProtocolError, match="after 1, but 2 are committed"):
            journal.truncate(APP, after_index=1)
        journal.truncate(APP, after_index=2)
        await written(journal)
        found = Journal(journal._disk)
        assert (found.committed(APP), found.last_index(APP)) == (2, 2)
    async with open_journal(open_disk()) as journal:
        journal.append(APP, entries(3, lost("c")))
        journal.note_committed(APP, 3)
        journal.truncate(APP, after_index=1, even_committed=True)
        assert journal.committed(APP) == 1
        journal.append(OTHER, entries(1, lost("a")))
        journal.note_committed(OTHER, 1)
        journal.forget(OTHER)
        journal.begin(OTHER)
    async with open_journal(open_disk()) as journal:
        assert (journal.committed(APP), journal.last_index(APP)) == (1, 1)
        assert journal.committed(OTHER) == 0
        journal.truncate(APP, after_index=0, even_committed=True)
    async with open_journal(open_disk()) as journal:
        assert (journal.committed(APP), journal.last_index(APP)) == (0, 0)


async def test_a_note_of_what_is_committed_writes_nothing_by_itself(autojump_clock: MockClock) -> None:
    disk = MemoryDisk()
    async with open_journal(disk) as journal:
        journal.append(APP, entries(1, lost("a")))
        await written(journal)
        journal.note_committed(APP, 1)
        await trio.sleep(1)
        assert disk.load()[APP].committed == 0
        journal.append(OTHER, entries(1, lost("a")))
        await trio.sleep(1)
        assert disk.load()[APP].committed == 1


async def test_a_newcomer_gets_every_entry_and_every_blob(open_disk: OpenDisk) -> None:
    given, late, result = b"a program" * 100, b"brought later", b"a result"
    async with open_journal(open_disk()) as journal:
        journal.append(APP, entries(1, lost("a")), brought(1, given))
        journal.append(APP, entries(2, finished(result), lost("b")))
        journal.append(APP, (), brought(3, late, given))
        many = [bytes([each]) * 100 for each in range(100)]
        journal.append(APP, entries(4, lost("c")), brought(4, *many))
        await written(journal)

        def blobs(after_index: int, up_to: int) -> list[bytes]:
            return [each.data for each in journal.blobs(APP, after_index=after_index, up_to=up_to)]

        assert blobs(0, 1) == [given]
        assert blobs(1, 2) == [result]
        assert blobs(2, 3) == [late]
        assert sorted(blobs(3, 4)) == sorted(many)
        assert len(blobs(0, 4)) == 103
        assert list(journal.read(APP, after_index=1, with_data=True))[:1] == entries(2, finished(result))


async def test_the_log_of_sqlite_is_folded_into_the_file_however_brief_the_groups_are(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path / "journal")
    async with open_journal(disk):
        for index in range(1, 5001):
            begin = [Begin(APP)] if index == 1 else []
            await disk.commit([*begin, Append(APP, tuple(entries(index, lost("a"))), ())])
        log = tmp_path / "journal-wal"
        pages = log.stat().st_size / 4096
        assert pages < 3000
        assert len(list(disk.read(APP, after_index=0))) == 5000


TINY_OR_NOT = pytest.mark.parametrize("data", [b"x", b"x" * 1000], ids=["tiny", "not tiny"])


async def test_a_blob_that_comes_again_and_again_is_kept_once_unless_it_is_tiny(open_disk: OpenDisk) -> None:
    tiny, larger = b"x", b"x" * 1000
    async with open_journal(open_disk()) as journal:
        journal.append(APP, entries(1, *[finished(data) for data in (tiny, larger) for _ in range(3)]))
        await written(journal)
        found = list(journal.blobs(APP, after_index=0, up_to=6))
        assert brought(1, tiny)[0] in found
        assert [each for each in found if each.data == larger] == brought(4, larger)


async def test_a_tiny_blob_that_came_after_others_were_looked_for_is_found(open_disk: OpenDisk) -> None:
    async with open_journal(open_disk()) as journal:
        for app in (APP, OTHER, APP):
            data = f"{journal.last_index(app)} of {app}".encode()
            assert journal.inline(app, digest_of(data)) is None
            journal.append(app, [], brought(1, data))
            await written(journal)
            assert journal.inline(app, digest_of(data)) == data
            journal.forget(app)
            await written(journal)
            assert journal.inline(app, digest_of(data)) is None


@pytest.mark.parametrize("beforehand", [False, True])
async def test_many_tiny_blobs_are_found_though_they_are_looked_over_in_parts(
    open_disk: OpenDisk, monkeypatch: pytest.MonkeyPatch, beforehand: bool
) -> None:
    monkeypatch.setattr(sqlite_disk, "PLACES_AT_ONCE", 7)
    many = [f"blob {each}".encode() for each in range(50)]
    async with open_journal(open_disk()) as journal:
        journal.append(APP, entries(1, *map(finished, many)))
        await written(journal)
        if beforehand:
            await journal.note_places()
        assert [journal.inline(APP, digest_of(each)) for each in reversed(many)] == many[::-1]
        assert journal.inline(APP, digest_of(b"another")) is None


@TINY_OR_NOT
async def test_a_blob_that_comes_again_after_a_truncation_counts_as_come_then(open_disk: OpenDisk, data: bytes) -> None:
    async with open_journal(open_disk()) as journal:
        journal.append(APP, entries(1, lost("a"), lost("b"), lost("c")))
        journal.append(APP, entries(4, finished(data)))
        journal.truncate(APP, after_index=2)
        journal.append(APP, entries(3, finished(data), epoch=LATER))
        journal.append(APP, entries(4, finished(data), epoch=LATER))
        await written(journal)
        assert [each.data for each in journal.blobs(APP, after_index=2, up_to=3)] == [data]


@TINY_OR_NOT
async def test_a_blob_whose_entry_was_taken_back_counts_as_come_with_the_later_one_that_names_it(
    open_disk: OpenDisk, data: bytes
) -> None:
    async with open_journal(open_disk()) as journal:
        journal.append(APP, entries(1, lost("a"), finished(data)))
        journal.truncate(APP, after_index=1)
        assert journal.inline(APP, digest_of(data)) == data
        journal.append(APP, entries(2, lost("b"), finished(data), epoch=LATER))
        await written(journal)
        assert list(journal.blobs(APP, after_index=0, up_to=2)) == []
        assert list(journal.blobs(APP, after_index=2, up_to=3)) == brought(3, data)


async def test_blobs_of_a_group_come_with_the_entries_that_name_them_wherever_a_newcomer_begins(
    open_disk: OpenDisk,
) -> None:
    async with open_journal(open_disk()) as journal:
        more = (lost("a"), finished(b"x"), lost("b"), finished(b"y"))
        journal.append(APP, entries(1, *more), brought(3, b"given"))
        await written(journal)
        assert list(journal.blobs(APP, after_index=1, up_to=2)) == brought(2, b"x")
        assert list(journal.blobs(APP, after_index=2, up_to=4)) == [*brought(3, b"given"), *brought(4, b"y")]


async def test_of_a_buried_application_its_tombstone_stays_and_it_does_not_begin_anew(open_disk: OpenDisk) -> None:
    def refuses(journal: Journal) -> None:
        with pytest.raises(LocalProtocolError, match="buried"):
            journal.append(APP, entries(1, lost("a")))
        with pytest.raises(LocalProtocolError, match="buried"):
            journal.promise_soon(APP, EPOCH)

    async with open_journal(open_disk()) as journal:
        journal.append(APP, entries(1, finished(b"data")))
        assert journal.tombstone(APP) is None
        journal.bury(APP, b"it ended well", at_s=1000.0)
        journal.bury(OTHER, b"so I was told", at_s=2000.0)
        assert journal.tombstone(APP) == b"it ended well"
        refuses(journal)
        await written(journal)
        refuses(journal)
    async with open_journal(open_disk()) as journal:
        assert journal.applications() == []
        assert (list(journal.read(APP)), journal.inline(APP, digest_of(b"data"))) == ([], None)
        assert list(journal.blobs(APP, after_index=0, up_to=9)) == []
        assert journal.tombstone(APP) == b"it ended well"
        journal.forget(APP)
        refuses(journal)
        journal.forget_tombstones(before_s=2000.0)
        await written(journal)
        assert (journal.tombstone(APP), journal.tombstone(OTHER)) == (None, b"so I was told")
        journal.append(APP, entries(1, lost("a")))


# --- ends of the process, ends of the machine, copies


class Machine:
    """A disk of one of the two kinds and all that can happen to it between two runs of a node."""

    def __init__(self, durability: Durability = "process") -> None:
        self.durability: Durability = durability

    def open(self) -> Disk:
        raise NotImplementedError

    def kill(self) -> None:
        """The process ends at once."""

    def cut_power(self) -> None:
        """The machine ends at once, and starts again. What was not synced may be there all the same."""

    def restore(self) -> None:
        """What is there is put in place of the file, as if it came from a backup."""


class MachineInMemory(Machine):
    disk: MemoryDisk | None = None

    def open(self) -> Disk:
        self.disk = self.disk or MemoryDisk("me")
        self.disk.durability = self.durability
        return self.disk

    def kill(self) -> None:
        assert self.disk is not None
        self.disk = self.disk.after_crash()

    def cut_power(self) -> None:
        assert self.disk is not None
        self.disk = self.disk.after_reboot()

    def restore(self) -> None:
        assert self.disk is not None
        self.disk = self.disk.copied()


class MachineWithFile(Machine):
    def __init__(self, path: Path, durability: Durability = "process") -> None:
        super().__init__(durability)
        self.path = path / "journal.db"
        self.boot = 1
        self.disk: SqliteDisk | None = None

    def open(self) -> Disk:
        self.disk = SqliteDisk(self.path, durability=self.durability, boot=f"boot {self.boot}")
        return self.disk

    def kill(self) -> None:
        assert self.disk is not None
        self.disk._opened.close()  # without a word about it

    def cut_power(self) -> None:
        self.kill()
        self.boot += 1

    def restore(self) -> None:
        data = self.path.read_bytes()
        self.path.unlink()  # a file system may well give its number to the next file
        self.path.write_bytes(data)


@pytest.fixture(params=["memory", "sqlite"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return MachineWithFile(tmp_path) if request.param == "sqlite" else MachineInMemory()


async def run_and_write(machine: Machine, *, first: int = 1) -> Journal:
    """One run of a node that writes an entry of each of two applications, and has not ended."""
    journal = Journal(machine.open())
    for app in (APP, OTHER):
        journal.append(app, entries(first, lost("a")))
    await journal._commit_group()
    return journal


async def test_a_killed_process_leaves_a_copy_that_can_be_trusted(machine: Machine) -> None:
    name = (await run_and_write(machine)).id
    machine.kill()
    found = Journal(machine.open())
    assert found.id == name
    assert (found.last_index(APP), found.unsure(APP)) == (1, False)


async def test_copies_are_unsure_after_the_end_of_the_machine_until_they_have_caught_up(machine: Machine) -> None:
    name = (await run_and_write(machine)).id
    machine.kill()
    journal = await run_and_write(machine, first=2)  # not cleanly closed in an earlier run of the same machine
    machine.cut_power()
    found = Journal(machine.open())
    assert found.id == name == journal.id
    assert (found.unsure(APP), found.unsure(OTHER)) == (True, True)
    found.sure(APP)
    found.begin(AppId("c" * 40))
    await found._commit_group()
    machine.kill()
    found = Journal(machine.open())
    assert [found.unsure(each) for each in (APP, OTHER, AppId("c" * 40))] == [False, True, False]
    found.forget(OTHER)
    await found._commit_group()
    machine.cut_power()
    assert Journal(machine.open()).unsure(APP), "something was written again"


@pytest.mark.parametrize("how", ["closed cleanly", "durability disk", "nothing written since"])
async def test_copies_can_be_trusted_after_the_end_of_the_machine_if_all_was_synced(machine: Machine, how: str) -> None:
    journal, last = await run_and_write(machine), 1
    if how == "durability disk":
        machine.kill()
        machine.durability = "disk"
        journal, last = await run_and_write(machine, first=2), 2  # syncs what the run before had not, too
    else:
        journal._disk.close()
        if how == "nothing written since":
            machine.open()
    machine.cut_power()
    found = Journal(machine.open())
    assert (found.last_index(APP), found.unsure(APP)) == (last, False)


async def test_a_restored_file_is_another_journal(machine: Machine) -> None:
    journal = await run_and_write(machine)
    journal._disk.close()
    machine.restore()
    found = Journal(machine.open())
    assert found.id != journal.id
    assert (found.last_index(APP), found.unsure(APP)) == (1, True)
    found._disk.close()
    assert Journal(machine.open()).id == found.id


async def test_two_copies_of_a_file_are_two_journals_and_a_moved_one_is_the_same(tmp_path: Path) -> None:
    old, new, copy = tmp_path / "old", tmp_path / "new", tmp_path / "copy"
    disk = SqliteDisk(old / "journal.db")
    disk.close()
    old.rename(new)
    copy.mkdir()
    (copy / "journal.db").write_bytes((new / "journal.db").read_bytes())
    names = []
    for path in (new, copy):
        found = SqliteDisk(path / "journal.db")
        names.append(found.journal_id)
        found.close()
    assert names[0] == disk.journal_id != names[1]


async def test_end_of_the_machine_takes_what_was_written_after_the_last_synced_group(
    autojump_clock: MockClock,
) -> None:
    disk = MemoryDisk()
    async with open_journal(disk) as journal:
        journal.append(APP, entries(1, lost("a")))
        await trio.sleep(1)
        journal.append(APP, entries(2, lost("b")), brought(2, b"x"))
        await trio.sleep(1)
        assert Journal(disk.after_reboot()).last_index(APP) == 1
        await journal.promise(OTHER, LATER)
        journal.append(APP, entries(3, lost("c")), brought(3, b"y"))
        journal.truncate(APP, after_index=2)
        journal.append(AppId("c" * 40), entries(1, lost("d")))
        journal.forget(OTHER)
        await written(journal)
        found = Journal(disk.after_reboot())
    assert found.applications() == [APP, OTHER]
    assert (found.last_index(APP), found.promised(OTHER)) == (2, LATER)
    assert (found.inline(APP, digest_of(b"x")), found.inline(APP, digest_of(b"y"))) == (b"x", None)


async def test_a_full_simulated_disk_ends_the_block() -> None:
    disk = MemoryDisk()

    async def write() -> None:
        async with open_journal(disk) as journal:
            disk.full = True
            journal.begin(APP)
            await trio.sleep_forever()

    with pytest.raises(StorageError, match="no space left"):
        await write()
    disk.full = False
    assert Journal(disk).applications() == []


# --- in any order


@define
class Model:
    """What a journal is to hold, with neither groups nor a disk: by application, its entries, and what was promised."""

    copies: dict[AppId, tuple[list[Entry], Epoch | None]] = field(factory=dict)
    graves: dict[AppId, bytes] = field(factory=dict)

    @classmethod
    def of(cls, journal: Journal) -> Model:
        copies = {app: (list(journal.read(app)), journal.promised(app)) for app in sorted(journal.applications())}
        for app, (found, _) in copies.items():
            assert journal.last_index(app) == journal.written_index(app) == len(found)
            assert journal.shape(app) == tuple(
                (each.index, each.epoch)
                for before, each in zip([None, *found], found, strict=False)
                if before is None or before.epoch != each.epoch
            )
            assert journal.committed(app) <= len(found)
        return cls(copies, {app: tombstone for app in APPS if (tombstone := journal.tombstone(app)) is not None})


APPS = (APP, OTHER, AppId("c" * 40))
KINDS = ("append", "append", "truncate", "promise", "note", "forget", "bury", "wait", "wait")
Step = tuple[str, AppId, int]
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(APPS), st.integers(1, 3)), max_size=40)


def write(journal: Journal, model: Model, step: Step) -> None:
    """One step of both, if it is allowed there."""
    kind, app, number = step
    if app in model.graves:
        return
    found, promised = model.copies.get(app, ([], None))
    epoch = promised or EPOCH
    match kind:
        case "append":
            more = entries(len(found) + 1, *[lost(f"{kind} {number}")] * number, epoch=epoch)
            journal.append(app, more, synced=number == 3)
            model.copies[app] = found + more, promised
        case "truncate" if found:
            after_index = max(journal.committed(app), len(found) - number)
            journal.truncate(app, after_index=after_index)
            model.copies[app] = found[:after_index], promised
        case "promise":
            journal.promise_soon(app, Epoch(epoch.counter + number - 1, ME))
            model.copies[app] = found, Epoch(epoch.counter + number - 1, ME)
        case "note":
            journal.note_committed(app, max(len(found) - number, 0))
        case "forget":
            journal.forget(app)
            model.copies.pop(app, None)
        case "bury":
            journal.bury(app, b"ended", at_s=0.0)
            model.copies.pop(app, None)
            model.graves[app] = b"ended"
    model.copies = {app: model.copies[app] for app in sorted(model.copies)}


@given(steps=STEPS)
@settings(max_examples=150, deadline=None)
def test_a_crash_leaves_what_the_first_writes_make_and_all_that_was_reported(steps: list[Step]) -> None:
    """Writes come while others are being written, and the process or the machine ends at any moment."""

    async def main() -> None:
        disk, model = MemoryDisk(delay_s=1.0), Model()
        history = [copy.deepcopy(model)]

        def check(app: AppId, written: Written) -> None:
            """Of what is reported, all is on the disk, is what was meant, and survives the machine where it must."""
            after_crash, after_reboot = Journal(disk.after_crash()), Journal(disk.after_reboot())
            assert list(after_crash.read(app))[: written.index] == model.copies[app][0][: written.index]
            assert after_crash.promised(app) == after_reboot.promised(app) == written.promised

        async with trio.open_nursery() as nursery:
            journal = Journal(disk)
            journal.report_commits(check)
            nursery.start_soon(journal._commit_in_groups, nursery.cancel_scope)
            for step in steps:
                if step[0] == "wait":
                    await trio.sleep(0.5 * step[2])
                else:
                    write(journal, model, step)
                    history.append(copy.deepcopy(model))
            for found in (disk.after_crash(), disk.after_reboot()):
                assert Model.of(Journal(found)) in history
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


@given(steps=STEPS, reboot=st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_crash_leaves_all_groups_that_a_file_has(steps: list[Step], reboot: bool) -> None:
    async def main(path: Path) -> None:
        machine, model = MachineWithFile(path), Model()
        journal = Journal(machine.open())
        expected = copy.deepcopy(model)
        for step in steps:
            if step[0] == "wait":
                await journal._commit_group()
                expected = copy.deepcopy(model)
            else:
                write(journal, model, step)
        if reboot:
            machine.cut_power()
        else:
            machine.kill()
        found = Journal(machine.open())
        assert Model.of(found) == expected
        assert all(found.unsure(app) == reboot for app in found.applications())

    with TemporaryDirectory() as path:
        trio.run(main, Path(path))
