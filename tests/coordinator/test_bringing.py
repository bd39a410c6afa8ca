"""What a participant cannot reach is brought to the coordinator, and nothing is made anew for it."""

from __future__ import annotations

import pytest

from jcpeer.application.manifest import Dispatch
from jcpeer.application.task import Command, Input, OutputOf, Task
from jcpeer.coordinator import events as coordinator_events
from jcpeer.coordinator.events import Collect, Collected, Quiet
from jcpeer.ids import Digest, TaskId
from jcpeer.wire.facts import OutputLost
from jcpeer.work import events as work
from tests.coordinator.little_world import ME, LittleWorld, Node
from tests.coordinator.test_machine import layered


class Firewalled(LittleWorld):
    """No participant reaches another one; each reaches the coordinator."""

    brought: list[Digest]
    gone: bool = False
    """Nobody can have anything any more, the coordinator neither."""

    def _finish_fetch(self, node: Node) -> None:
        key, fetch = next(iter(node.fetching.items()))
        del node.fetching[key]
        missing = tuple(each.blob.digest for each in fetch.inputs if ME not in each.holders)
        if missing:
            self._tell(node, work.InputsMissing(key, missing, "no connection to its holder"))
        else:
            node.blobs.update(each.blob.digest for each in fetch.inputs)
            self._tell(node, work.InputsHere(key))

    def _collect(self, effect: coordinator_events.Collect) -> None:
        if self.gone and self.random.random() < 0.5:
            self.post(coordinator_events.CollectFailed(effect.blob.digest, effect.holders))
        else:
            self.brought.append(effect.blob.digest)
            super()._collect(effect)


@pytest.mark.parametrize("dispatch", ["assign", "relay", "grab"])
@pytest.mark.parametrize("seed", range(4))
def test_participants_that_cannot_reach_each_other_exchange_data_by_way_of_the_coordinator(
    seed: int, dispatch: Dispatch
) -> None:
    world = Firewalled(layered(layers=4, width=4, seed=seed), seed=seed, large=True, dispatch=dispatch)
    world.brought = []
    assert world.run() == "ok"
    assert set(world.executions.values()) == {1}
    assert not any(isinstance(entry.fact, OutputLost) for entry in world.journal)
    assert world.brought
    assert len(world.brought) == len(set(world.brought)), "each once"


@pytest.mark.parametrize("seed", range(10))
def test_what_the_coordinator_cannot_get_either_is_made_anew_in_the_end(seed: int) -> None:
    world = Firewalled(layered(layers=3, width=3, seed=seed), seed=seed, large=True)
    world.brought, world.gone = [], True
    assert world.run() == "ok"


def one_whose_input_is_on_its_way(read: TaskId) -> Firewalled:
    """Both inputs of a task were made, on different nodes."""
    made = tuple(Task(TaskId(name), Command(("true",)), outputs=("out",)) for name in ("one", "other"))
    inputs = tuple(Input(each.id, OutputOf(each.id, "out")) for each in made)
    tasks = [*made, Task(read, Command(("true",)), inputs)]
    for seed in range(50):
        world = Firewalled(tasks, seed=seed, nodes=2, slots=1, large=True)
        world.brought = []
        while world.over is None and not world.collecting:
            world.step()
        if world.machine.input_on_its_way(read):
            return world
    raise AssertionError("never made on different nodes")


def test_a_task_waits_for_an_input_that_is_on_its_way_and_goes_out_again_when_it_is_here() -> None:
    read = TaskId("read")
    world = one_whose_input_is_on_its_way(read)
    [effect] = world.collecting
    assert effect == Collect(effect.blob, tuple(sorted(world.machine.holders(effect.blob.digest))))
    world.collecting.clear()
    for _ in range(500):
        world.step()
    assert world.executions == {"one": 1, "other": 1}, "it waits"
    world.post(Collected(effect.blob.digest))
    world.post(Quiet())
    assert not world.machine.input_on_its_way(read)
    assert world.run() == "ok"
    assert world.executions == {"one": 1, "other": 1, "read": 1}
