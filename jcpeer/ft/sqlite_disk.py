"""The journal of a node as one SQLite file.

In WAL mode a commit is a write to the end of a log. With durability "process" nothing waits for the disk: what is
committed survives kill -9 of the node, while a crash of the machine may take the last groups, whole, never the file.
With "disk" each group is synced. A promise always is, and with it all that was committed before.

The file knows itself: a random id, which file on which file system it is, and during which run of the machine it was
written without being synced. So whoever opens it finds out that it was copied or restored, or that the machine has
crashed since; what it holds may then be behind what was promised with it, and is marked unsure. (One thing cannot be
found out: that an older copy was written over this very file.)

A brief group is written at once, since on its way to a thread and back it would wait longer, behind everything else
that the node does; but where the disk was slow lately, where it has to be synced, and where the log is to be folded
into the file, that happens in a thread. Reads have a connection of their own and happen in the caller's thread.
A lock on a file beside it keeps a second process out; the kernel drops it with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, assert_never, cast

import structlog
import trio

from jcpeer.errors import ConfigError, RemoteProtocolError, StorageError
from jcpeer.ft.disk import (
    CAME_WITH_NONE,
    Append,
    Begin,
    Bury,
    Durability,
    Forget,
    ForgetTombstones,
    Held,
    NoteCommitted,
    Place,
    Promise,
    Run,
    Sure,
    Truncate,
    Unplace,
    Write,
    is_synced,
)
from jcpeer.ids import AppId, Digest, Epoch, NodeId, short
from jcpeer.wire.codec import pack, unpacker
from jcpeer.wire.facts import Brought, Entry, Fact, TasksAdded

log = structlog.get_logger()

SCHEMA_VERSION = 4

TINY_BYTES = 512
"""Small blobs up to this length are kept as often as they come: to find the one that is there costs more."""

SCHEMA = f"""
CREATE TABLE journal (id TEXT NOT NULL, file TEXT NOT NULL, unsynced_boot TEXT);
CREATE TABLE application (
    number INTEGER PRIMARY KEY, app TEXT NOT NULL UNIQUE, promised_counter INTEGER, promised_node TEXT,
    committed INTEGER NOT NULL DEFAULT 0, unsure INTEGER NOT NULL DEFAULT 0  -- 1: its machine went down; 2: it is new
);
CREATE TABLE entry (
    app INTEGER NOT NULL, idx INTEGER NOT NULL, at_s REAL NOT NULL, fact BLOB NOT NULL, PRIMARY KEY (app, idx)
) WITHOUT ROWID;
CREATE TABLE run (  -- the epoch of the entries from here to the next run
    app INTEGER NOT NULL, idx INTEGER NOT NULL, epoch_counter INTEGER NOT NULL, epoch_node TEXT NOT NULL,
    PRIMARY KEY (app, idx)
) WITHOUT ROWID;
CREATE TABLE inline (
    id INTEGER PRIMARY KEY, app INTEGER NOT NULL, idx INTEGER NOT NULL, digest BLOB NOT NULL, data BLOB NOT NULL
);
CREATE INDEX inline_in_order ON inline (app, idx);
CREATE UNIQUE INDEX inline_once ON inline (app, digest) WHERE length(data) > {TINY_BYTES};
CREATE TABLE tombstone (app TEXT PRIMARY KEY, at_s REAL NOT NULL, tombstone BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE placement (app TEXT PRIMARY KEY, decision BLOB NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
"""

FINDER_OF_TINY = """
CREATE TEMP TABLE tiny (app INTEGER NOT NULL, digest BLOB NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (app, digest))
WITHOUT ROWID;
"""
"""Of one connection alone, which brings it up to date before looking: the digests come in no order, so that to keep
them in order on the disk would cost a page for each."""

NUMBER = "(SELECT number FROM application WHERE app = ?)"

KEEP_BLOB = f"""
INSERT INTO inline VALUES (?, ?, ?, ?, ?) ON CONFLICT (app, digest) WHERE length(data) > {TINY_BYTES}
DO UPDATE SET idx = excluded.idx WHERE excluded.idx < inline.idx
"""
"""One that came again counts as come with the first entry that stands."""

BRIEF_ROWS = 200
BRIEF_BYTES = 2**18
SLOW_S = 0.02
SLOW_FOR_S = 60.0
"""After a group that took longer than a brief one may, so long all are written in the thread."""
FOLD_GROUPS = 100
"""So many may be written before one of them sees whether SQLite's log is long enough to be folded into the file."""
FOLD_PAGES = 1000

ROWS_AT_ONCE = 256
"""Read at once: a read that stays open would keep SQLite from folding its log into the file."""
BLOBS_AT_ONCE = 16
PLACES_AT_ONCE = 100_000
"""Tiny blobs that are put in order at once."""

FS_IOC_GETVERSION = 0x80087601
"""Asks for the generation of an inode, which tells two files apart that had the same number one after the other."""

_unpack_fact = unpacker(cast("type[Fact]", Fact))


class SqliteDisk:
    """Keeps a `Journal` in this file, which it creates if need be."""

    def __init__(self, path: Path, *, durability: Durability = "process", boot: str | None = None) -> None:
        """Open it for this process alone.

        Args:
            durability: "disk" syncs each group.
            boot: Another one each time that the machine starts; if not given, as the kernel says.

        Raises:
            ConfigError: another process has it open, or another version wrote it.
            StorageError: it cannot be read or written.
        """
        self._path = path
        self._synchronous = "FULL" if durability == "disk" else "NORMAL"
        self._boot = boot or _boot_id()
        self._at_risk = self._boot if durability == "process" else None
        self.journal_id = ""
        self._unsynced_boot: str | None = None
        """What the file says of it."""
        self._found_id = 0
        """Up to here tiny blobs can be found by their digests."""
        self._unfolded = 0
        self._slow_until_s = 0.0
        self._one_at_a_time, self._one_notes = trio.CapacityLimiter(1), trio.CapacityLimiter(1)
        with ExitStack() as opened:
            opened.callback(os.close, _lock(path))
            with _storage_errors(path):
                file = _name_of_file(path)
                self._writer = opened.enter_context(closing(_connect(path)))
                self._reader = opened.enter_context(closing(_connect(path)))
                self._finder = opened.enter_context(closing(_connect(path)))
                """Apart from the reader, since a thread may be at work with it."""
                self._prepare(file)
                (self._last_id,) = self._writer.execute("SELECT coalesce(max(id), 0) FROM inline").fetchone()
                """Of a blob; none is given twice, so that `tiny` can be continued from the last."""
                self._finder.executescript(FINDER_OF_TINY)
            self._opened = opened.pop_all()

    def _prepare(self, file: str) -> None:
        self._writer.execute("PRAGMA journal_mode = WAL")
        self._writer.execute("PRAGMA synchronous = FULL")
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._writer.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        elif version != SCHEMA_VERSION:
            raise ConfigError(f"another version of jcpeer wrote the journal {self._path}: use that, or move it away")
        self._know_itself(file)
        self._writer.execute(f"PRAGMA synchronous = {self._synchronous}")
        self._writer.execute("PRAGMA wal_autocheckpoint = 0")

    def _know_itself(self, file: str) -> None:
        """Find out whether what is there is still what was written."""
        with self._transaction():
            row = self._writer.execute("SELECT id, file, unsynced_boot FROM journal").fetchone()
            if row is None:
                self.journal_id = secrets.token_hex(16)
                self._writer.execute("INSERT INTO journal VALUES (?, ?, NULL)", (self.journal_id, file))
                return
            self.journal_id, known_file, self._unsynced_boot = row
            if known_file != file:
                self.journal_id = secrets.token_hex(16)
                self._doubt("was copied or restored", file)
            elif self._unsynced_boot not in (None, self._boot):
                self._doubt("was not synced when the machine ended", file)

    def _doubt(self, why: str, file: str) -> None:
        log.warning(f"the journal {why}: its copies count for nothing until they have caught up", path=str(self._path))
        self._unsynced_boot = None
        self._writer.execute("UPDATE journal SET id = ?, file = ?, unsynced_boot = NULL", (self.journal_id, file))
        self._writer.execute("UPDATE application SET unsure = max(unsure, 1)")

    def close(self) -> None:
        with _storage_errors(self._path):
            if self._unsynced_boot is not None:
                with suppress(sqlite3.Error):  # then it was not closed cleanly, and says so
                    self._writer.execute("PRAGMA synchronous = FULL")  # all that was committed before is synced, too
                    self._writer.execute("UPDATE journal SET unsynced_boot = NULL")
            self._opened.close()

    # --- reading

    def load(self) -> dict[AppId, Held]:
        query = """SELECT app, promised_counter, promised_node, committed, unsure,
                   (SELECT coalesce(max(idx), 0) FROM entry WHERE entry.app = number) FROM application"""
        held: dict[AppId, Held] = {}
        with _storage_errors(self._path):
            for app, counter, node, committed, unsure, last_index in self._reader.execute(query):
                promised = counter and Epoch(counter, NodeId(node))
                held[AppId(app)] = Held(
                    promised,
                    committed,
                    unsure > 0,
                    unsure > 1,
                    last_index,
                    self._runs(AppId(app)),
                )
        return held

    def _runs(self, app: AppId) -> list[Run]:
        query = f"SELECT idx, epoch_counter, epoch_node FROM run WHERE app = {NUMBER} ORDER BY idx"
        rows = self._reader.execute(query, (app,)).fetchall()
        return [(index, Epoch(counter, NodeId(node))) for index, counter, node in rows]

    def decisions(self) -> dict[AppId, bytes]:
        with _storage_errors(self._path):
            return {AppId(app): decision for app, decision in self._reader.execute("SELECT * FROM placement")}

    def read(self, app: AppId, *, after_index: int) -> Iterator[Entry]:
        query = f"SELECT idx, at_s, fact FROM entry WHERE app = {NUMBER} AND idx > ? ORDER BY idx LIMIT ?"
        rows: list[Any] = [None]
        while rows:
            with _storage_errors(self._path), _one_view(self._reader):
                runs = deque(self._runs(app))
                rows = self._reader.execute(query, (app, after_index, ROWS_AT_ONCE)).fetchall()
            if rows and not runs:
                raise _damaged(self._path, f"in the epochs of application {short(app)}")
            for after_index, at_s, packed in rows:  # the next page starts after the last row
                while len(runs) > 1 and runs[1][0] <= after_index:
                    runs.popleft()
                try:
                    yield Entry(runs[0][1], after_index, at_s, _unpack_fact(packed))
                except RemoteProtocolError as error:
                    raise _damaged(self._path, f"at entry {after_index} of application {short(app)}") from error

    def inline(self, app: AppId, digest: Digest) -> bytes | None:
        wanted = (app, bytes.fromhex(digest))
        large = f"SELECT data FROM inline WHERE app = {NUMBER} AND digest = ? AND length(data) > {TINY_BYTES}"
        tiny = f"SELECT data FROM tiny JOIN inline USING (id) WHERE tiny.app = {NUMBER} AND tiny.digest = ?"
        with _storage_errors(self._path):
            row = self._reader.execute(large, wanted).fetchone()
            if row is None:
                while self._note_some_places():
                    pass
                row = self._finder.execute(tiny, wanted).fetchone()
        return cast(bytes, row[0]) if row else None

    async def note_places(self) -> None:
        while await trio.to_thread.run_sync(self._note_some_places, limiter=self._one_notes):
            pass

    def _note_some_places(self) -> bool:
        """Of tiny blobs that came since. Returns whether there are more."""
        with _storage_errors(self._path):
            (last_id,) = self._finder.execute("SELECT coalesce(max(id), 0) FROM inline").fetchone()
            up_to = min(last_id, self._found_id + PLACES_AT_ONCE)
            if up_to > self._found_id:
                # In order, since a tree grows several times as fast by it.
                self._finder.execute(
                    f"""INSERT OR REPLACE INTO tiny SELECT app, digest, id FROM inline
                        WHERE id > ? AND id <= ? AND length(data) <= {TINY_BYTES} ORDER BY app, digest""",
                    (self._found_id, up_to),
                )
                self._found_id = max(self._found_id, up_to)
        return bool(up_to < last_id)

    def blobs(self, app: AppId, *, after_index: int, up_to: int) -> Iterator[Brought]:
        query = f"""SELECT idx, id, digest, data FROM inline
                    WHERE app = {NUMBER} AND (idx, id) > (?, ?) AND idx <= ? ORDER BY idx, id LIMIT ?"""
        rows: list[Any] = [(after_index + 1, 0)]
        while rows:
            index, last_id = rows[-1][:2]
            with _storage_errors(self._path):
                rows = self._reader.execute(query, (app, index, last_id, up_to, BLOBS_AT_ONCE)).fetchall()
            yield from (Brought(index, Digest(digest.hex()), data) for index, _, digest, data in rows)

    def tombstone(self, app: AppId) -> bytes | None:
        with _storage_errors(self._path):
            row = self._reader.execute("SELECT tombstone FROM tombstone WHERE app = ?", (app,)).fetchone()
        return cast(bytes, row[0]) if row else None

    # --- writing

    async def commit(self, writes: Sequence[Write]) -> None:
        # The first group says that an end of the machine may take something, or that it cannot any more.
        first = self._unsynced_boot != self._at_risk
        synced = first or any(is_synced(write) for write in writes)
        self._unfolded += 1
        if synced or self._synchronous == "FULL" or not self._is_quick or not _are_brief(writes):
            await trio.to_thread.run_sync(self._commit_and_fold, writes, synced, first, limiter=self._one_at_a_time)
            self._unfolded = 0
        else:
            began_s = time.monotonic()
            self._commit(writes)
            if time.monotonic() > began_s + SLOW_S:
                self._slow_until_s = time.monotonic() + SLOW_FOR_S

    @property
    def _is_quick(self) -> bool:
        return self._unfolded < FOLD_GROUPS and time.monotonic() >= self._slow_until_s

    def _commit_and_fold(self, writes: Sequence[Write], synced: bool, first: bool) -> None:
        with _storage_errors(self._path):
            self._writer.execute(f"PRAGMA wal_autocheckpoint = {FOLD_PAGES}")
            if synced:
                self._writer.execute("PRAGMA synchronous = FULL")
            self._commit(writes, first=first)
            if synced:
                self._writer.execute(f"PRAGMA synchronous = {self._synchronous}")
            self._writer.execute("PRAGMA wal_autocheckpoint = 0")

    def _commit(self, writes: Sequence[Write], *, first: bool = False) -> None:
        with _storage_errors(self._path), self._transaction():
            if first:
                self._writer.execute("UPDATE journal SET unsynced_boot = ?", (self._at_risk,))
            for write in writes:
                self._apply(write)
        self._unsynced_boot = self._at_risk

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:  # a full disk has rolled it back already
                self._writer.execute("ROLLBACK")
            raise

    def _apply(self, write: Write) -> None:
        execute, each_of = self._writer.execute, self._writer.executemany
        match write:
            case Begin(app, unsure):
                execute("INSERT INTO application (app, unsure) VALUES (?, ?)", (app, 2 * unsure))
            case Append(app, entries, blobs):
                number = self._number(app)
                self._begin_runs(number, entries)
                each_of(
                    "INSERT INTO entry VALUES (?, ?, ?, ?)", [(number, e.index, e.at_s, pack(e.fact)) for e in entries]
                )
                rows = [(number, each.index, bytes.fromhex(each.digest), each.data) for each in blobs]
                each_of(KEEP_BLOB, [(self._last_id + at, *row) for at, row in enumerate(rows, 1)])
                self._last_id += len(rows)
            case Truncate(app, after_index):
                beyond = (self._number(app), after_index)
                execute("DELETE FROM entry WHERE app = ? AND idx > ?", beyond)
                execute("DELETE FROM run WHERE app = ? AND idx > ?", beyond)
                execute(f"UPDATE inline SET idx = {CAME_WITH_NONE} WHERE app = ? AND idx > ?", beyond)
                execute("UPDATE application SET committed = min(committed, ?) WHERE app = ?", (after_index, app))
            case Promise(app, epoch):
                promised = (epoch.counter, epoch.node, app)
                execute("UPDATE application SET promised_counter = ?, promised_node = ? WHERE app = ?", promised)
            case NoteCommitted(app, index):
                execute("UPDATE application SET committed = ? WHERE app = ?", (index, app))
            case Sure(app):
                execute("UPDATE application SET unsure = 0 WHERE app = ?", (app,))
            case Forget(app):
                self._delete(app)
            case Bury(app, tombstone, at_s):
                self._delete(app)
                execute("INSERT OR REPLACE INTO tombstone VALUES (?, ?, ?)", (app, at_s, tombstone))
            case ForgetTombstones(before_s):
                execute("DELETE FROM tombstone WHERE at_s < ?", (before_s,))
            case Place(app, decision):
                execute("INSERT OR REPLACE INTO placement VALUES (?, ?)", (app, decision))
            case Unplace(app):
                execute("DELETE FROM placement WHERE app = ?", (app,))
            case _:
                assert_never(write)

    def _number(self, app: AppId) -> int | None:
        row = self._writer.execute("SELECT number FROM application WHERE app = ?", (app,)).fetchone()
        return row and cast(int, row[0])

    def _begin_runs(self, number: int | None, entries: Sequence[Entry]) -> None:
        query = "SELECT epoch_counter, epoch_node FROM run WHERE app = ? ORDER BY idx DESC LIMIT 1"
        latest = self._writer.execute(query, (number,)).fetchone()
        for entry in entries:
            epoch = entry.epoch.counter, entry.epoch.node
            if epoch != latest:
                latest = epoch
                self._writer.execute("INSERT INTO run VALUES (?, ?, ?, ?)", (number, entry.index, *epoch))

    def _delete(self, app: AppId) -> None:
        if (number := self._number(app)) is not None:
            for table in ("entry", "run", "inline"):
                self._writer.execute(f"DELETE FROM {table} WHERE app = ?", (number,))
            self._writer.execute("DELETE FROM application WHERE number = ?", (number,))


def _are_brief(writes: Sequence[Write]) -> bool:
    rows = size = 0
    for write in writes:
        match write:
            case Append(entries=entries, blobs=blobs):
                rows += len(entries) + len(blobs)
                size += sum(len(each.data) for each in blobs)
                size += sum(len(each.fact.batch.payload) for each in entries if isinstance(each.fact, TasksAdded))
            case Truncate() | Forget() | Bury() | ForgetTombstones():
                return False  # who knows how much goes with that
            case _:
                rows += 1
    return rows <= BRIEF_ROWS and size <= BRIEF_BYTES


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return secrets.token_hex(16)  # what cannot be known counts as another


def _name_of_file(path: Path) -> str:
    """What a file and nothing else is called, across moves and reboots. (The number of a device may change with those,
    so it is not in it.) SQLite must not have it open: to close a file drops the locks of the process on it."""
    with path.open("rb") as file:
        generation = bytes(8)
        with suppress(OSError):  # not every file system has them
            generation = fcntl.ioctl(file, FS_IOC_GETVERSION, generation)
        found = os.fstat(file.fileno()), os.fstatvfs(file.fileno())
    return f"{found[1].f_fsid:x}.{found[0].st_ino:x}.{generation[:4].hex()}"


def _lock(path: Path) -> int:
    """Our exclusive hold on the journal, as an open file."""
    beside = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite would create it for everyone to read.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        lock = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"cannot use the journal {path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(lock, 20).decode(errors="replace") or "?"
        os.close(lock)
        raise ConfigError(
            f"a node (process {holder}) already uses {path.parent}: stop it, or give this one another --name"
        ) from error
    os.truncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock


@contextmanager
def _one_view(connection: sqlite3.Connection) -> Iterator[None]:
    """What is read within is of one moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    """Transactions are ours to begin and end; writer and finder are used by one thread after another."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        match getattr(error, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_FULL:
                raise StorageError(f"no space left for the journal {path}: free some and start again") from error
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                raise _damaged(path, f"({error})") from error
        raise StorageError(f"cannot use the journal {path}: {error}") from error
    except OSError as error:
        raise StorageError(f"cannot use the journal {path}: {error.strerror or error}") from error


def _damaged(path: Path, where: str) -> StorageError:
    return StorageError(f"the journal {path} is damaged {where}: move it away to start without its applications")
