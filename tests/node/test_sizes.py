"""Much of something, on real nodes: of input, of tasks, of output, of what is printed."""

from __future__ import annotations

import os

import pytest

import jcpeer
from jcpeer.wire.requests import Status
from jcpeer.work.blobs import MEMORY_BYTES_MAX
from tests.node.project import arithmetic
from tests.real_grid import RealGrid, RealNode

pytestmark = pytest.mark.real


@pytest.fixture
def nodes(world: RealGrid) -> list[RealNode]:
    return world.ensure("a", "b", slots=1)


def ended_well(handle: jcpeer.Handle) -> Status:
    status = handle.wait(timeout=60)
    assert status.summary.state == "ok", status.failures
    return status


def test_a_large_input_reaches_every_node_once(nodes: list[RealNode], tmp_path_factory: pytest.TempPathFactory) -> None:
    size = int(os.environ.get("JCPEER_TEST_INPUT_MIB", "64")) * 2**20
    large = tmp_path_factory.mktemp("in") / "large"
    with large.open("wb") as file:
        for _ in range(size // 2**20):
            file.write(os.urandom(2**20))
    application = jcpeer.Application("large")
    for node in nodes:
        application.command(["wc", "-c", jcpeer.File(large)], labels={"node": node.name}, name=node.name)
    with nodes[0].connect() as grid:
        handle = grid.run(application)
        ended_well(handle)
        assert {b"".join(handle.logs(each.name)).split()[0] for each in nodes} == {str(size).encode()}


def test_more_small_inputs_of_one_task_than_a_store_has_memory_for(
    nodes: list[RealNode], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("in")
    count, size = 1200, 60_000
    assert count * size > MEMORY_BYTES_MAX
    for number in range(count):
        (directory / str(number)).write_bytes(number.to_bytes(4, "big") * (size // 4))
    (directory / "many.toml").write_text(
        '[task.all]\ninputs = [{glob = "[0-9]*"}]\ncommand = "cat [0-9]* | wc -c"\nlabels = {node = "b"}\n'
    )
    for node in nodes:  # it lives with one of them, and comes to it by way of the other
        with node.connect() as grid:
            handle = grid.run(directory / "many.toml")
            ended_well(handle)
            assert b"".join(handle.logs("all")).split() == [str(count * size).encode()]


def test_five_thousand_calls(nodes: list[RealNode]) -> None:
    application = jcpeer.Application("many")
    calls = [application.task(arithmetic.double, number) for number in range(5000)]
    with nodes[0].connect() as grid:
        handle = grid.run(application)
        status = ended_well(handle)
        values = handle.result()
    assert status.attempts == 5000
    print(f"5000 calls in {status.seconds:.1f} s")
    assert values == {call.id: 2 * number for number, call in enumerate(calls)}


def test_calls_that_print_much(nodes: list[RealNode]) -> None:
    application = jcpeer.Application("talkative")
    calls = [application.task(arithmetic.print_much, number) for number in range(400)]
    with nodes[0].connect() as grid:
        handle = grid.run(application)
        ended_well(handle)
        assert all(len(b"".join(handle.logs(each))) == 100 * 1024 + 1 for each in calls[::80])


def test_many_outputs_of_one_task_elsewhere(nodes: list[RealNode], tmp_path_factory: pytest.TempPathFactory) -> None:
    a, b = nodes
    application = jcpeer.Application("outputs")
    number, size = 300, 60_000
    makes = f"for each in $(seq {number}); do head -c {size} /dev/urandom > part-$each; done"
    parts = [f"part-{each}" for each in range(1, number + 1)]
    made = application.command(makes, outputs=parts, labels={"node": b.name}, name="make", keep=True)
    application.command("cat part-* | wc -c", inputs=[made], labels={"node": a.name}, name="merge")
    tiny = [f"tiny-{each}" for each in range(1, 2001)]
    application.command(
        "for each in $(seq 2000); do echo $each > tiny-$each; done", outputs=tiny, labels={"node": b.name}, name="tiny"
    )
    with a.connect() as grid:
        handle = grid.run(application)
        ended_well(handle)
        assert b"".join(handle.logs("merge")).strip() == str(number * size).encode()
        place = tmp_path_factory.mktemp("out")
        fetched = handle.fetch(place, "make")
        assert {each.stat().st_size for each in fetched} == {size}
        assert len(fetched) == number
        assert len(handle.fetch(place, "tiny")) == 2000
