"""The journal of a node as one SQLite file.

In WAL mode a commit is a write to the end of a log. With `durability="process"` nothing waits for the disk: what is
committed survives kill -9 of the node, while a crash of the machine may take the last groups, whole, never the file.
With "disk" each group is synced. A promise always is, and with it all that was committed before.

Groups are written in a thread, one at a time. Reads have a connection of their own and happen in the caller's thread.
A lock on a file beside it keeps a second process out; the kernel drops it with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Literal, assert_never, cast

import trio

from jcpeer.errors import ConfigError, RemoteProtocolError, StorageError
from jcpeer.ft.journal import Append, Begin, Forget, Held, Place, Promise, Truncate, Unplace, Write
from jcpeer.ids import AppId, Digest, Epoch, NodeId, short
from jcpeer.wire.codec import pack, unpack
from jcpeer.wire.facts import Entry, Fact

SCHEMA_VERSION = 1

SCHEMA = f"""
CREATE TABLE application (
    app TEXT PRIMARY KEY, journal_id TEXT NOT NULL, promised_counter INTEGER, promised_node TEXT
) WITHOUT ROWID;
CREATE TABLE entry (
    app TEXT NOT NULL, idx INTEGER NOT NULL, epoch_counter INTEGER NOT NULL, epoch_node TEXT NOT NULL,
    at_s REAL NOT NULL, fact BLOB NOT NULL, PRIMARY KEY (app, idx)
);
CREATE TABLE inline (app TEXT NOT NULL, digest TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (app, digest));
PRAGMA user_version = {SCHEMA_VERSION};
"""

PLACEMENTS = "CREATE TABLE IF NOT EXISTS placement (app TEXT PRIMARY KEY, decision BLOB NOT NULL) WITHOUT ROWID"
"""Apart, since a journal of version 1 may be without."""

ROWS_AT_ONCE = 256
"""Read at once: a read that stays open would keep SQLite from folding its log into the file."""

FACT = cast("type[Fact]", Fact)


class SqliteDisk:
    """Keeps a `Journal` in this file, which it creates if need be."""

    def __init__(self, path: Path, *, durability: Literal["process", "disk"] = "process") -> None:
        """Open it for this process alone.

        Raises:
            ConfigError: another process has it open, or a newer version wrote it.
            StorageError: it cannot be read or written.
        """
        self._path = path
        self._synchronous = "FULL" if durability == "disk" else "NORMAL"
        self._one_at_a_time = trio.CapacityLimiter(1)
        with ExitStack() as opened:
            opened.callback(os.close, _lock(path))
            with _storage_errors(path):
                self._writer = opened.enter_context(closing(_connect(path)))
                self._reader = opened.enter_context(closing(_connect(path)))
                self._prepare()
            self._opened = opened.pop_all()

    def _prepare(self) -> None:
        self._writer.execute("PRAGMA journal_mode = WAL")
        self._writer.execute(f"PRAGMA synchronous = {self._synchronous}")
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._writer.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        elif version != SCHEMA_VERSION:
            raise ConfigError(f"another version of jcpeer wrote the journal {self._path}: use that, or move it away")
        self._writer.execute(PLACEMENTS)

    def close(self) -> None:
        with _storage_errors(self._path):
            self._opened.close()

    # --- reading

    def load(self) -> dict[AppId, Held]:
        query = """SELECT app, journal_id, promised_counter, promised_node,
                   (SELECT coalesce(max(idx), 0) FROM entry WHERE entry.app = application.app) FROM application"""
        with _storage_errors(self._path):
            return {
                AppId(app): Held(journal_id, None if counter is None else Epoch(counter, NodeId(node)), last_index)
                for app, journal_id, counter, node, last_index in self._reader.execute(query)
            }

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

    def new_journal_id(self) -> str:
        return secrets.token_hex(16)

    # --- writing

    async def commit(self, writes: Sequence[Write]) -> None:
        await trio.to_thread.run_sync(self._commit, writes, limiter=self._one_at_a_time)

    def _commit(self, writes: Sequence[Write]) -> None:
        synced = any(isinstance(write, Promise) for write in writes)
        with _storage_errors(self._path):
            if synced:
                self._writer.execute("PRAGMA synchronous = FULL")
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                for write in writes:
                    self._apply(write)
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:  # a full disk has rolled it back already
                    self._writer.execute("ROLLBACK")
                raise
            if synced:
                self._writer.execute(f"PRAGMA synchronous = {self._synchronous}")

    def _apply(self, write: Write) -> None:
        execute, each_of = self._writer.execute, self._writer.executemany
        match write:
            case Begin(app, journal_id):
                execute("INSERT INTO application VALUES (?, ?, NULL, NULL)", (app, journal_id))
            case Append(app, entries, blobs):
                rows = [(app, e.index, e.epoch.counter, e.epoch.node, e.at_s, pack(e.fact, FACT)) for e in entries]
                each_of("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)", rows)
                each_of("INSERT OR IGNORE INTO inline VALUES (?, ?, ?)", [(app, *item) for item in blobs.items()])
            case Truncate(app, after_index):
                execute("DELETE FROM entry WHERE app = ? AND idx > ?", (app, after_index))
            case Promise(app, epoch):
                promised = (epoch.counter, epoch.node, app)
                execute("UPDATE application SET promised_counter = ?, promised_node = ? WHERE app = ?", promised)
            case Forget(app):
                for table in ("application", "entry", "inline"):
                    execute(f"DELETE FROM {table} WHERE app = ?", (app,))
            case Place(app, decision):
                execute("INSERT OR REPLACE INTO placement VALUES (?, ?)", (app, decision))
            case Unplace(app):
                execute("DELETE FROM placement WHERE app = ?", (app,))
            case _:
                assert_never(write)


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
