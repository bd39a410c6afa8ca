"""One application survives three coordinators in a row, with real processes."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from pathlib import Path

import pytest

import jcpeer
from jcpeer.application.manifest import Header, application_key
from jcpeer.application.references import TaskRef
from jcpeer.client import Handle
from jcpeer.client.header import new_header
from jcpeer.ids import NodeId, app_key, closest_set
from jcpeer.values import evolve
from jcpeer.wire.codec import pack
from jcpeer.wire.requests import Happened, Progress
from tests.real_grid import Gate, RealGrid, RealNode, eventually

pytestmark = pytest.mark.real

KEEPS = ("coordinator", "copy")
Gist = tuple[object, ...]


def away_from(node: RealNode, nodes: list[RealNode]) -> Header:
    """Of an application that is placed on three others of these nodes."""
    while True:
        header = new_header("survivor", placement="rdv")
        known = evolve(header, user=getpass.getuser())
        key = app_key(application_key(known, pack(known)))
        if NodeId(node.id) not in closest_set(key, (NodeId(each.id) for each in nodes), k=3):
            return header


def keepers(handle: Handle) -> set[str]:
    return {each.node.name for each in handle.status().replicas if each.state in KEEPS}


def gist(event: Happened | Progress) -> Gist:
    """What nobody may tell otherwise later."""
    assert isinstance(event, Happened)
    return event.index, event.kind, event.task, event.attempt, event.node and event.node.id


def until(
    events: Iterator[Happened | Progress], kind: str, task: TaskRef | None = None
) -> Iterator[tuple[object, ...]]:
    """What is shown up to such an event."""
    for event in events:
        yield gist(event)
        assert isinstance(event, Happened)
        if event.kind == kind and (task is None or event.task == task.id):
            return


def test_an_application_survives_three_coordinators_in_a_row(world: RealGrid, tmp_path: Path) -> None:
    names = ("a", "b", "c", "d", "e")
    nodes = dict(zip(names, world.ensure(*names), strict=True))
    application = jcpeer.Application("survivor")
    gates, steps = [], list[TaskRef]()
    for number in range(3):  # one waits until a coordinator is lost, the next until another one goes on
        (tmp_path / str(number)).mkdir()
        gates.append(Gate(tmp_path / str(number)))
        waiting = application.command(gates[-1].command, after=steps[-1:])
        steps.append(application.command(["true"], after=[waiting]))
    with nodes["e"].connect() as grid:
        handle = grid.run(application, header=away_from(nodes["e"], list(nodes.values())))
        events = handle.events()
        shown = list[Gist]()
        for gate, step in zip(gates, steps, strict=True):
            eventually(lambda: len(keepers(handle)) == 3, within_s=30, what="three keep the journal")
            coordinator = handle.status().coordinator.name
            nodes[coordinator].kill()
            shown += until(events, "took_over")
            gate.open()
            shown += until(events, "finished", step)
            (nodes[coordinator],) = world.ensure(coordinator)
        status = handle.wait(timeout=10)
        assert (status.summary.state, status.epoch, status.takeovers) == ("ok", 4, 3)
    for node in nodes.values():
        with node.connect() as grid:
            assert list(map(gist, grid.handle(handle.id).events()))[: len(shown)] == shown
