"""What a node says to clients that hand over nonsense, or the same thing at the same time."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from jcpeer.application.manifest import Header
from jcpeer.application.task import BlobRef, Input, Task, Timed
from jcpeer.errors import JcpeerError, RequestError
from jcpeer.ids import AppId, Digest, TaskId, digest_of
from jcpeer.net.memory import MemoryWorld
from jcpeer.node.core import Node
from jcpeer.node.home import TURN_S
from jcpeer.wire.requests import AddTasks, Cancel, Opened, PutBlob, ReplyBody, RequestBody, SealApplication, Submit
from simulations.grid import SimulatedGrid

DATA = bytes(100_000)
BLOB = BlobRef(digest_of(DATA), len(DATA))


@asynccontextmanager
async def node_with_application() -> AsyncIterator[tuple[Node, AppId]]:
    world = MemoryWorld(seed=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        node = (await SimulatedGrid(world, nursery).start("alone")).running
        opened = await ask(node, Submit(Header("nonsense", 0.0, b"n" * 16)))
        assert isinstance(opened, Opened)
        yield node, opened.app
        nursery.cancel_scope.cancel()


async def ask(node: Node, body: RequestBody) -> ReplyBody:
    async with aclosing(node.service.handle(body)) as replies:
        async for reply in replies:
            return reply
    raise AssertionError("no reply")


def task(name: str, *inputs: BlobRef) -> Task:
    return Task(TaskId(name), Timed(0.1), tuple(Input(f"in{at}", blob) for at, blob in enumerate(inputs)))


async def test_a_batch_that_reads_what_nobody_has_is_refused(autojump_clock: MockClock) -> None:
    async with node_with_application() as (node, app):
        longer = BlobRef(BLOB.digest, BLOB.size + 1)
        with pytest.raises(RequestError, match="which the batch does not name"):
            await ask(node, AddTasks(app, 0, (task("a", BLOB),)))
        with pytest.raises(RequestError, match="were not put first"):
            await ask(node, AddTasks(app, 0, (task("a", BLOB),), (BLOB,)))
        await ask(node, PutBlob(app, BLOB, 0, DATA))
        with pytest.raises(RequestError, match="has 100000 bytes, not 100001"):
            await ask(node, AddTasks(app, 0, (task("a", longer),), (longer,)))
        await ask(node, AddTasks(app, 0, (task("a", BLOB),), (BLOB,)))


async def test_of_two_clients_that_add_the_same_task_at_once_one_is_told_no(autojump_clock: MockClock) -> None:
    async with node_with_application() as (node, app):
        answers: list[ReplyBody | JcpeerError] = []

        async def add(number: int, *tasks: Task) -> None:
            try:
                answers.append(await ask(node, AddTasks(app, number, tasks)))
            except RequestError as error:
                answers.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(add, 0, task("a"), task("b"))
            nursery.start_soon(add, 1, task("b"), task("c"))
        assert sum(isinstance(each, RequestError) for each in answers) == 1
        host = node.applications.get(app)
        assert host is not None
        host.machine.check()
        await ask(node, SealApplication(app, 0))
        while host.machine.state.ended is None:
            await trio.sleep(0.1)
        assert host.machine.state.ended == "ok"


async def test_a_batch_waits_for_the_one_before_which_may_make_what_it_reads(autojump_clock: MockClock) -> None:
    async with node_with_application() as (node, app), trio.open_nursery() as nursery:
        after = Task(TaskId("b"), Timed(0.1), after=(TaskId("a"),))
        nursery.start_soon(ask, node, AddTasks(app, 1, (after,)))
        await trio.testing.wait_all_tasks_blocked()
        await ask(node, AddTasks(app, 0, (task("a"),)))


async def test_a_batch_without_those_before_it_is_looked_at_for_itself_in_the_end(autojump_clock: MockClock) -> None:
    async with node_with_application() as (node, app):
        began_s = trio.current_time()
        await ask(node, AddTasks(app, 2, (task("a"),)))
        assert trio.current_time() - began_s >= TURN_S
        with pytest.raises(RequestError, match="no task"):
            await ask(node, AddTasks(app, 4, (Task(TaskId("b"), Timed(0.1), after=(TaskId("nobody"),)),)))


async def test_a_batch_that_waits_is_told_that_the_application_was_cancelled(autojump_clock: MockClock) -> None:
    async with node_with_application() as (node, app):

        async def add() -> None:
            with pytest.raises(RequestError, match="took no batch"):
                await ask(node, AddTasks(app, 1, (task("a"),)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(add)
            await trio.testing.wait_all_tasks_blocked()
            began_s = trio.current_time()
            await ask(node, Cancel(app))
        assert trio.current_time() - began_s < TURN_S


async def test_pieces_that_do_not_fit_are_refused_and_the_blob_can_be_put_anew(autojump_clock: MockClock) -> None:
    async with node_with_application() as (node, app):
        for offset, data in ((7, b"x"), (-1, b"x"), (0, DATA + b"x"), (0, DATA[:-1] + b"x")):
            with pytest.raises(RequestError):
                await ask(node, PutBlob(app, BLOB, offset, data))
        for digest in ("", "../../key", "Z" * 64):
            with pytest.raises(RequestError):
                await ask(node, PutBlob(app, BlobRef(Digest(digest), 100_000), 0, DATA))
        with pytest.raises(RequestError):
            await ask(node, PutBlob(app, BlobRef(BLOB.digest, -1), 0, b""))
        await ask(node, PutBlob(app, BLOB, 0, DATA[:50]))
        await ask(node, PutBlob(app, BLOB, 0, DATA))
        assert node.parts.store.content(BLOB.digest) == DATA


async def test_a_header_that_no_list_could_show_is_refused(autojump_clock: MockClock) -> None:
    async with node_with_application() as (node, _):
        for name in ("", " ", "two\nlines", "\x00", "x" * 201):
            with pytest.raises(RequestError, match="printable characters"):
                await ask(node, Submit(Header(name, 0.0, b"")))
        for submitted_s in (-1.0, 1e300, math.inf, math.nan):
            with pytest.raises(RequestError, match="set the clock"):
                await ask(node, Submit(Header("app", submitted_s, b"")))
