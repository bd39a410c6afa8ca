"""A coordinator at work in a whole node, in virtual time."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from trio.testing import MockClock

from jcpeer.coordinator.events import Event, Tick, Woke
from jcpeer.net.memory import MemoryWorld
from jcpeer.node.applications import PAUSE_S
from simulations.grid import open_grid
from simulations.workloads import bag


async def test_a_coordinator_is_called_when_something_is_due_and_told_when_its_node_was_held_up(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = MemoryWorld(1)
    async with open_grid(world) as grid:
        home = await grid.start("home")
        await grid.start("helper")
        await trio.sleep(5)
        app = (await home.client.session.submit(bag("long", [300.0] * 4), grid.header("long", placement="local"))).app
        await trio.sleep(10)
        host = home.running.applications.get(app)
        assert host is not None
        machine = host.machine
        events: Counter[type[Event]] = Counter()
        handle = machine.handle

        def counted(event: Event, *, now_s: float) -> object:
            events[type(event)] += 1
            return handle(event, now_s=now_s)

        monkeypatch.setattr(machine, "handle", counted)
        await trio.sleep(200)
        assert events[Tick] <= 1, "whoever refused may be asked again"
        assert events[Woke] == 0
        offset_s = world.wall_s - trio.current_time() + PAUSE_S + 0.1
        monkeypatch.setattr(MemoryWorld, "wall_s", property(lambda world: trio.current_time() + offset_s))
        await trio.sleep(1)
        assert events[Woke] == 1
        await home.client.session.wait(app)
