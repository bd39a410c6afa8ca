"""Addresses that outlast a restart: where checked members were, so that a node finds its grid again without multicast.

One JSON file in the node's state directory, bounded, replaced whole. It is a convenience: when it is damaged it is set
aside with one line in the log, when it cannot be written the node goes on without.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
import trio

from jcpeer.discovery.sighting import Sighting
from jcpeer.ids import NodeId

ENTRIES_MAX = 1000
SAVE_INTERVAL_S = 2.0
"""A thousand nodes that join one after another are a few writes, not a thousand."""

_log = structlog.get_logger("jcpeer.discovery")


class AddressBook:
    """The latest addresses of the latest members of one grid; the oldest entry makes room for a new one."""

    def __init__(self, path: Path, *, grid: str) -> None:
        self._path = path
        self._grid = grid
        self._entries = _read(path, grid)
        self._changed = trio.Event()

    @property
    def entries(self) -> Mapping[NodeId, tuple[str, ...]]:
        """Latest first."""
        return dict(reversed(self._entries.items()))

    def sightings(self) -> tuple[Sighting, ...]:
        """What to try at the start, latest first."""
        return tuple(Sighting("book", node, addresses, grid=self._grid) for node, addresses in self.entries.items())

    def remember(self, node: NodeId, addresses: tuple[str, ...]) -> None:
        self._entries.pop(node, None)
        self._entries[node] = addresses
        while len(self._entries) > ENTRIES_MAX:
            del self._entries[next(iter(self._entries))]
        self._changed.set()

    def forget(self, node: NodeId) -> None:
        if self._entries.pop(node, None) is not None:
            self._changed.set()

    def save(self) -> None:
        """Write what has changed, if anything has. Never raises for the disk's faults."""
        if not self._changed.is_set():
            return
        self._changed = trio.Event()
        text = json.dumps({"grid": self._grid, "nodes": self._entries}, indent=1)
        passing = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        try:
            passing.write_text(text)
            passing.replace(self._path)
        except OSError as error:
            _log.warning("the address book cannot be written", path=str(self._path), error=error.strerror)
            with contextlib.suppress(OSError):
                passing.unlink(missing_ok=True)

    async def keep_saved(self) -> None:
        """Save from time to time, for ever."""
        while True:
            await self._changed.wait()
            await trio.sleep(SAVE_INTERVAL_S)
            self.save()


@asynccontextmanager
async def open_address_book(path: Path, *, grid: str) -> AsyncIterator[AddressBook]:
    """The book in this file, saved now and then and at the end; one of another grid counts as empty."""
    book = AddressBook(path, grid=grid)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(book.keep_saved)
        try:
            yield book
        finally:
            book.save()
            nursery.cancel_scope.cancel()


def _read(path: Path, grid: str) -> dict[NodeId, tuple[str, ...]]:
    try:
        content: Any = json.loads(path.read_bytes())
        if content["grid"] != grid:
            return {}
        return {NodeId(_text(node)): tuple(map(_text, addresses)) for node, addresses in content["nodes"].items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        _log.warning("the address book cannot be read; starting without", path=str(path), error=error.strerror)
        return {}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        aside = path.with_name(f"{path.name}.damaged")
        with contextlib.suppress(OSError):
            path.replace(aside)
        _log.warning("the address book was damaged; starting with an empty one", set_aside=str(aside))
        return {}


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError("not a text")
    return value
