"""The journal of a node as one SQLite file.

In WAL mode a commit is a write to the end of a log. With durability "process" nothing waits for the disk: what is
committed survives kill -9 of the node, while a crash of the machine may take the last groups, whole, never the file.
With "disk" each group is synced. A promise always is, and with it all that was committed before.

The file knows itself: a random id, which file on which file system it is, and during which run of the machine it was
written without being synced. So whoever opens it finds out that it was copied or restored, or that the machine has
crashed since; what it holds may then be behind what was promised with it, and is marked unsure. (One thing cannot be
found out: that an older copy was written over this very file.)

Groups are written in a thread, one at a time. Reads have a connection of their own and happen in the caller's thread.
A lock on a file beside it keeps a second process out; the kernel drops it with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
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
    Sure,
    Truncate,
    Unplace,
    Write,
    is_synced,
)
from jcpeer.ids import AppId, Digest, Epoch, NodeId, short
from jcpeer.wire.codec import pack, unpack
from jcpeer.wire.facts import Brought, Entry, Fact

log = structlog.get_logger()

SCHEMA_VERSION = 3

SCHEMA = f"""
CREATE TABLE journal (id TEXT NOT NULL, file TEXT NOT NULL, unsynced_boot TEXT);
CREATE TABLE application (
    app TEXT PRIMARY KEY, promised_counter INTEGER, promised_node TEXT, committed INTEGER NOT NULL DEFAULT 0,
    unsure INTEGER NOT NULL DEFAULT 0  -- 1: its machine went down; 2: it is new
) WITHOUT ROWID;
CREATE TABLE entry (
    app TEXT NOT NULL, idx INTEGER NOT NULL, epoch_counter INTEGER NOT NULL, epoch_node TEXT NOT NULL,
    at_s REAL NOT NULL, fact BLOB NOT NULL, PRIMARY KEY (app, idx)
);
CREATE TABLE inline (
    app TEXT NOT NULL, digest TEXT NOT NULL, idx INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (app, digest)
);
CREATE INDEX inline_in_order ON inline (app, idx, digest);
CREATE TABLE tombstone (app TEXT PRIMARY KEY, at_s REAL NOT NULL, tombstone BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE placement (app TEXT PRIMARY KEY, decision BLOB NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
"""

BEGINNINGS_OF_RUNS = """
SELECT app, idx, epoch_counter, epoch_node FROM (
    SELECT *, lag(epoch_counter) OVER log AS counter_before, lag(epoch_node) OVER log AS node_before
    FROM entry WINDOW log AS (PARTITION BY app ORDER BY idx)
) WHERE counter_before IS NOT epoch_counter OR node_before IS NOT epoch_node ORDER BY app, idx
"""

KEEP_BLOB = """
INSERT INTO inline VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET idx = excluded.idx WHERE excluded.idx < inline.idx
"""
"""One that came again counts as come with the first entry that stands."""

ROWS_AT_ONCE = 256
"""Read at once: a read that stays open would keep SQLite from folding its log into the file."""
BLOBS_AT_ONCE = 16

FS_IOC_GETVERSION = 0x80087601
"""Asks for the generation of an inode, which tells two files apart that had the same number one after the other."""

FACT = cast("type[Fact]", Fact)


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
        self._one_at_a_time = trio.CapacityLimiter(1)
        with ExitStack() as opened:
            opened.callback(os.close, _lock(path))
            with _storage_errors(path):
                file = _name_of_file(path)
                self._writer = opened.enter_context(closing(_connect(path)))
                self._reader = opened.enter_context(closing(_connect(path)))
                self._prepare(file)
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
                   (SELECT coalesce(max(idx), 0) FROM entry WHERE entry.app = application.app) FROM application"""
        with _storage_errors(self._path):
            held = {
                AppId(app): Held(
                    counter and Epoch(counter, NodeId(node)), committed, unsure > 0, unsure > 1, last_index
                )
                for app, counter, node, committed, unsure, last_index in self._reader.execute(query)
            }
            for app, index, counter, node in self._reader.execute(BEGINNINGS_OF_RUNS):
                held[AppId(app)].runs.append((index, Epoch(counter, NodeId(node))))
        return held

    def decisions(self) -> dict[AppId, bytes]:
        with _storage_errors(self._path):
            return {AppId(app): decision for app, decision in self._reader.execute("SELECT * FROM placement")}

    def read(self, app: AppId, *, after_index: int) -> Iterator[Entry]:
        query = """SELECT idx, epoch_counter, epoch_node, at_s, fact FROM entry
                   WHERE app = ? AND idx > ? ORDER BY idx LIMIT ?"""
        rows: list[Any] = [None]
        while rows:
            with _storage_errors(self._path):
                rows = self._reader.execute(query, (app, after_index, ROWS_AT_ONCE)).fetchall()
            for after_index, counter, node, at_s, packed in rows:  # the next page starts after the last row
                try:
                    yield Entry(Epoch(counter, NodeId(node)), after_index, at_s, unpack(packed, FACT))
                except RemoteProtocolError as error:
                    raise _damaged(self._path, f"at entry {after_index} of application {short(app)}") from error

    def inline(self, app: AppId, digest: Digest) -> bytes | None:
        with _storage_errors(self._path):
            row = self._reader.execute("SELECT data FROM inline WHERE app = ? AND digest = ?", (app, digest)).fetchone()
        return cast(bytes, row[0]) if row else None

    def blobs(self, app: AppId, *, after_index: int, up_to: int) -> Iterator[Brought]:
        query = """SELECT idx, digest, data FROM inline
                   WHERE app = ? AND (idx, digest) > (?, ?) AND idx <= ? ORDER BY idx, digest LIMIT ?"""
        rows: list[Any] = [(after_index + 1, "", b"")]
        while rows:
            index, digest, _ = rows[-1]
            with _storage_errors(self._path):
                rows = self._reader.execute(query, (app, index, digest, up_to, BLOBS_AT_ONCE)).fetchall()
            yield from (Brought(index, Digest(digest), data) for index, digest, data in rows)

    def tombstone(self, app: AppId) -> bytes | None:
        with _storage_errors(self._path):
            row = self._reader.execute("SELECT tombstone FROM tombstone WHERE app = ?", (app,)).fetchone()
        return cast(bytes, row[0]) if row else None

    # --- writing

    async def commit(self, writes: Sequence[Write]) -> None:
        await trio.to_thread.run_sync(self._commit, writes, limiter=self._one_at_a_time)

    def _commit(self, writes: Sequence[Write]) -> None:
        # The first group says that an end of the machine may take something, or that it cannot any more.
        first = self._unsynced_boot != self._at_risk
        synced = first or any(is_synced(write) for write in writes)
        with _storage_errors(self._path):
            if synced:
                self._writer.execute("PRAGMA synchronous = FULL")
            with self._transaction():
                if first:
                    self._writer.execute("UPDATE journal SET unsynced_boot = ?", (self._at_risk,))
                for write in writes:
                    self._apply(write)
            self._unsynced_boot = self._at_risk
            if synced:
                self._writer.execute(f"PRAGMA synchronous = {self._synchronous}")

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
                rows = [(app, e.index, e.epoch.counter, e.epoch.node, e.at_s, pack(e.fact)) for e in entries]
                each_of("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)", rows)
                each_of(KEEP_BLOB, [(app, each.digest, each.index, each.data) for each in blobs])
            case Truncate(app, after_index):
                execute("DELETE FROM entry WHERE app = ? AND idx > ?", (app, after_index))
                execute("UPDATE inline SET idx = ? WHERE app = ? AND idx > ?", (CAME_WITH_NONE, app, after_index))
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

    def _delete(self, app: AppId) -> None:
        for table in ("application", "entry", "inline"):
            self._writer.execute(f"DELETE FROM {table} WHERE app = ?", (app,))


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


def _connect(path: Path) -> sqlite3.Connection:
    """Transactions are ours to begin and end; the writer is used by one thread after another."""
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
