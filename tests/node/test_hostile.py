"""Members that ask for too much, answer with too little, or are very far away."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import Placed, Seat
from jcpeer.application.task import BlobRef, Input, Task, Timed
from jcpeer.errors import RequestError, UnreachableError
from jcpeer.ids import AppId, NodeId, TaskId, digest_of
from jcpeer.membership.signed import sign
from jcpeer.net.memory import MemoryWorld
from jcpeer.node import calling, elsewhere, home
from jcpeer.values import evolve
from jcpeer.wire.codec import pack
from jcpeer.wire.messages import Answer, Ask, CallBack, Contact, TryDial
from jcpeer.wire.requests import Host, Watch
from simulations.grid import Place, open_grid
from tests.node.test_placement import Nodes, key_of, nodes


async def test_an_input_that_takes_minutes_to_its_home_gets_there(autojump_clock: MockClock) -> None:
    data = bytes(4_000_000)
    blob = BlobRef(digest_of(data), len(data))
    task = Task(TaskId("work"), Timed(1.0), (Input("in", blob),))
    async with open_grid(MemoryWorld(seed=0, encode=True, bandwidth=100_000.0)) as grid:
        for name in "ab":
            await grid.start(name)
        await trio.sleep(10)
        session = grid.nodes["a"].client.session
        application = LoadedApplication("far", (task,), data={blob.digest: data})
        accepted = await session.submit(application, Nodes(grid).header("b"))
        assert (await session.wait(accepted.app)).summary.state == "ok"


async def test_whoever_falls_silent_in_an_answer_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with nodes("a", "b") as there:
        a, b = (there.grid.nodes[each] for each in "ab")
        for body in (Host(sign(Placed(AppId(""), there.header(), ()), a.identity, ())), Watch("app")):
            b.running.elsewhere.asked = lambda node, user, ask: b.running.parts.network.send(  # type: ignore[method-assign]
                node, Answer(ask.call, b"", last=False)
            )
            with (
                trio.fail_after(elsewhere.ANSWER_S + elsewhere.SILENT_S),
                pytest.raises(UnreachableError, match="said"),
            ):
                async for _ in a.running.elsewhere.ask(body, [b.id]):
                    pass


async def test_a_watch_in_which_nothing_happens_is_no_silence(autojump_clock: MockClock) -> None:
    async with nodes("a", "b") as there:
        session = there.grid.nodes["a"].client.session
        task = Task(TaskId("long"), Timed(300.0))
        accepted = await session.submit(LoadedApplication("app", (task,)), there.header("b"))
        assert (await session.wait(accepted.app)).summary.state == "ok"


async def test_a_flood_of_questions_is_answered_in_part(autojump_clock: MockClock) -> None:
    async with nodes("a", "b") as there:
        a, b = (there.grid.nodes[each] for each in "ab")
        task = Task(TaskId("long"), Timed(300.0))
        accepted = await a.client.session.submit(LoadedApplication("app", (task,)), there.header("b"))
        for call in range(3000):
            a.running.parts.network.send(b.id, Ask(10_000 + call, pack(Watch(accepted.app))))
        await trio.sleep(5)
        assert b.running.elsewhere.answering <= elsewhere.ANSWERING_MAX


async def test_one_user_opens_only_so_many_applications_on_a_node_of_another(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "UNSEALED_MAX", 20)
    async with nodes("b") as there:
        b = there.grid.nodes["b"]
        m = await there.start("m", place=Place(user="mallory"))
        await trio.sleep(3)
        refused = []
        for _ in range(30):
            header = evolve(there.grid.header("flood", placement="rdv"), user="mallory")
            placed = Placed(key_of(header, "mallory"), header, (Seat(b.id, b.running.parts.journal.id),))
            signed = sign(placed, m.identity, m.running.parts.standing.membership.chain)
            try:
                await m.running.elsewhere.request(b.id, Host(signed))
            except RequestError as error:
                refused.append(str(error))
        assert len(refused) == 10
        assert "has 20 unfinished submissions of mallory" in refused[0]
        task = Task(TaskId("mine"), Timed(1.0))
        accepted = await b.client.session.submit(LoadedApplication("app", (task,)), there.grid.header("app"))
        assert (await b.client.session.wait(accepted.app)).summary.state == "ok"


async def test_nobody_has_a_node_dial_whatever_it_likes(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nodes("b") as there:
        b = there.grid.nodes["b"]
        m = await there.start("m", place=Place(user="mallory"))
        await trio.sleep(3)
        dialled: list[str] = []
        monkeypatch.setattr(b.running.reach, "dial", lambda address, expected: dialled.append(address))

        async def probe(address: str, expected: NodeId) -> bool:
            dialled.append(address)
            return False

        monkeypatch.setattr(b.running.reach, "probe", probe)
        inside = (
            "/ip4/127.0.0.1/tcp/22",
            "/ip4/169.254.169.254/tcp/80",
            "/ip6/::1/tcp/22",
            "/ip6/fe80::1/tcp/1",
        )
        m.running.parts.network.send(b.id, CallBack(b.id, Contact(NodeId("somebody"), inside)))
        for number, address in enumerate(inside):
            m.running.parts.network.send(b.id, TryDial(number, (address,)))
            await trio.sleep(1)
        assert dialled == []
        addresses = tuple(f"/ip4/10.0.0.{each}/tcp/22" for each in range(200))
        for number in range(500):
            m.running.parts.network.send(b.id, CallBack(b.id, Contact(NodeId(f"n{number}"), addresses)))
        m.running.parts.network.send(b.id, CallBack(b.id, Contact(m.id, addresses)))
        await trio.sleep(1)
        assert len(dialled) <= calling.CALLS_MAX * calling.ADDRESSES_MAX
