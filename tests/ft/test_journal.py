"""The journal: what is reported, what survives, what it refuses; on both disks alike."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from jcpeer.application.task import BlobRef
from jcpeer.errors import ConfigError, LocalProtocolError, StorageError
from jcpeer.ft.journal import Disk, Journal, MemoryDisk, Write, open_journal
from jcpeer.ft.sqlite_disk import SqliteDisk
from jcpeer.ids import AppId, Epoch, NodeId, TaskId, digest_of
from jcpeer.wire.facts import Ended, Entry, Fact, Finished, OutputLost
from jcpeer.wire.messages import Outcome, Output

ME = NodeId("me")
EPOCH = Epoch(1, ME)
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


def entries(first: int, *facts: Fact) -> list[Entry]:
    return [Entry(EPOCH, index, 1000.0 + index, fact) for index, fact in enumerate(facts, first)]


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
        identities = journal.journal_id(APP), journal.journal_id(OTHER)
    async with open_journal(open_disk()) as journal:
        assert journal.applications() == [APP, OTHER]
        assert list(journal.read(APP)) == written
        assert list(journal.read(OTHER)) == entries(1, lost("x"))
        assert journal.last_index(APP) == 601
        assert (journal.journal_id(APP), journal.journal_id(OTHER)) == identities
        assert len(set(identities)) == 2


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
        journal.append(APP, entries(1, finished(data)), {digest_of(given): given})
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
    reports: list[tuple[float, AppId, int]] = []
    async with open_journal(MemoryDisk(delay_s=1.0)) as journal:
        journal.report_commits(lambda app, index: reports.append((trio.current_time(), app, index)))
        journal.append(APP, entries(1, lost("a")))
        await trio.sleep(0.5)
        for index in (2, 3):
            journal.append(APP, entries(index, lost("a")))
        journal.append(OTHER, entries(1, lost("a")))
        await trio.sleep(5)
    assert reports == [(1.0, APP, 1), (2.0, APP, 3), (2.0, OTHER, 1)]


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
        first = journal.journal_id(APP)
    async with open_journal(open_disk()) as journal:
        assert list(journal.read(APP)) == entries(1, lost("a"), Ended("ok"))
        assert journal.applications() == [APP]
        journal.forget(APP)
        journal.append(APP, entries(1, Ended("ok")))
        assert journal.journal_id(APP) not in (None, first)  # an empty journal is another one


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


async def test_a_journal_from_before_placements_were_kept_can_be_used(tmp_path: Path) -> None:
    async with open_journal(SqliteDisk(tmp_path / "journal.db")):
        pass
    connection = sqlite3.connect(tmp_path / "journal.db")
    connection.execute("DROP TABLE placement")
    connection.close()
    async with open_journal(SqliteDisk(tmp_path / "journal.db")) as journal:
        await journal.place(APP, b"there")


async def test_entry_that_does_not_follow_the_last_one_is_our_bug(open_disk: OpenDisk) -> None:
    async with open_journal(open_disk()) as journal:
        journal.append(APP, entries(7, lost("a")))  # a copy may begin anywhere
        for index in (7, 9):
            with pytest.raises(LocalProtocolError, match=f"entry {index} .* after entry 7"):
                journal.append(APP, entries(index, lost("a")))


async def test_second_process_on_the_same_journal_is_refused(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path / "journal")
    with pytest.raises(ConfigError, match=r"\(process \d+\) already uses .*--name"):
        SqliteDisk(tmp_path / "journal")
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600
    disk.close()
    SqliteDisk(tmp_path / "journal").close()


async def test_promise_syncs_the_group_and_other_groups_are_not(tmp_path: Path) -> None:
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
            await journal.promise(APP, EPOCH)
            journal.append(APP, entries(1, lost("a")))
        assert seen == [("Begin", full), ("Promise", full), ("Append", usual)]


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


async def test_journal_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    SqliteDisk(tmp_path / "journal").close()
    connection = sqlite3.connect(tmp_path / "journal")
    connection.execute("PRAGMA user_version = 99")
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
