"""Applications on real nodes that are killed, stopped and restarted, and whose tasks go wrong."""

from __future__ import annotations

import signal
import threading

import pytest

import jcpeer
from jcpeer.application.references import TaskRef
from jcpeer.errors import ApplicationFailedError, RequestError
from jcpeer.values import evolve
from jcpeer.wire.requests import Happened, Status
from tests.real_grid import Gate, RealGrid, RealNode, eventually

pytestmark = pytest.mark.real


@pytest.fixture
def nodes(world: RealGrid) -> tuple[RealNode, RealNode, RealNode]:
    """Two slots each. Applications are handed to the first, which coordinates them."""
    a, b, c = world.ensure("a", "b", "c", slots=2)
    return a, b, c


Three = tuple[RealNode, RealNode, RealNode]


def on(node: RealNode) -> dict[str, str]:
    """The label that only this node has."""
    return {"node": node.name}


def lost_by(status: Status) -> dict[str, int]:
    return {each.node.name: each.lost for each in status.shares if each.lost}


def ended_well(handle: jcpeer.Handle) -> Status:
    status = handle.wait(timeout=30)
    assert status.summary.state == "ok", status.failures
    return status


# --- nodes go


def test_a_killed_participant_costs_its_attempts_only(nodes: Three, gate: Gate) -> None:
    a, b, _ = nodes
    with a.connect() as grid:
        handle = grid.run(gate.application("killed", tasks=8), placement="local")
        eventually(lambda: len(b.attempts()) == 2, within_s=10, what="b works")
        b.kill()
        eventually(lambda: not b.attempts(), within_s=2, what="its attempts are gone")
        gate.open()
        status = ended_well(handle)
    assert lost_by(status) == {"b": 2}
    assert status.attempts == 10
    assert all("its process is gone" in line for line in status.failures)


def test_a_stopped_participant_is_done_without_and_is_back_when_it_goes_on(nodes: Three, gate: Gate) -> None:
    a, b, _ = nodes
    with a.connect() as grid:
        to_cancel = jcpeer.Application("cancelled meanwhile")
        to_cancel.command(gate.command, labels=on(b))
        doomed = grid.run(to_cancel, placement="local")
        eventually(b.attempts, within_s=10, what="b works for the first")
        handle = grid.run(gate.application("goes on", tasks=5), placement="local")
        eventually(lambda: len(b.attempts()) == 2, within_s=10, what="b works for both")
        b.send_signal(signal.SIGSTOP)
        eventually(lambda: "b" not in a.seen(), within_s=8, what="b is missed")
        doomed.cancel()
        assert doomed.wait(timeout=10).summary.state == "cancelled"
        gate.open()
        before = ended_well(handle)
        assert lost_by(before).keys() == {"b"}

        b.send_signal(signal.SIGCONT)
        eventually(lambda: "b" in a.seen(), within_s=5, what="b is seen again")
        eventually(lambda: not b.attempts(), within_s=5, what="b is released by both")
        now = handle.status()
        whole = evolve(before, replicas=now.replicas, ftc=now.ftc, promise=now.promise)
        assert now == whole, "what came late changed nothing, but that its copy is in reach again"
        again = jcpeer.Application("again")
        again.command(["true"], labels=on(b))
        assert {each.node.name for each in ended_well(grid.run(again, placement="local")).shares} == {"b"}


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_coordinator_that_was_stopped_goes_on_as_if_nothing_had_been_or_gives_way(
    nodes: Three, gate: Gate, replicas: int
) -> None:
    a, b, c = nodes
    with a.connect() as grid:
        handle = grid.run(gate.application("held up", tasks=6, replicas=replicas), placement="local")
        eventually(lambda: len(b.attempts()) == len(c.attempts()) == 2, within_s=10, what="all work")
        a.send_signal(signal.SIGSTOP)
        eventually(lambda: "a" not in b.seen(), within_s=8, what="a is missed")
        if replicas > 1:
            with b.connect() as there:
                status = there.handle(handle.id).status()
            assert (status.coordinator.name, status.takeovers) in (("b", 1), ("c", 1))
        a.send_signal(signal.SIGCONT)
        eventually(lambda: {"b", "c"} <= a.seen().keys(), within_s=5, what="they have each other again")
        gate.open()
        status = ended_well(handle)
    if replicas == 1:
        assert (status.attempts, status.failures, status.takeovers) == (6, (), 0)
    else:
        assert (status.attempts, status.takeovers) == (8, 1)
        assert lost_by(status) == {"a": 2}, "what others run goes on"


def test_a_client_outlives_the_death_of_its_coordinator(world: RealGrid, nodes: Three, gate: Gate) -> None:
    a, b, c = nodes
    application = jcpeer.Application("outlives", placement="local")
    done = [application.command(["true"], name=f"done-{number}") for number in range(4)]
    held = [application.command(gate.command, name=f"held-{number}", after=done) for number in range(6)]
    ends: list[Status] = []
    with a.connect() as grid:
        handle = grid.run(application, placement="local")
        waiter = threading.Thread(target=lambda: ends.append(handle.wait(timeout=30)))
        waiter.start()
        eventually(lambda: len(b.attempts()) == len(c.attempts()) == 2, within_s=10, what="the held ones run")
        elsewhere = {task: each for task in held if (each := where_it_is(handle, task))[0] in ("b", "c")}
        finished = {each.task for each in finishes(handle, count=4)}
        a.kill()
        world.ensure("a", slots=2)
        gate.open()
        waiter.join(30)
        (status,) = ends
        assert (status.summary.state, status.takeovers, status.epoch) == ("ok", 1, 2)
        assert finished == {f"done-{number}" for number in range(4)}
        assert all(len(handle.task(task).attempts) == 1 for task in done), "what was finished stayed so"
        assert len(elsewhere) == 4
        assert {task: where_it_is(handle, task) for task in elsewhere} == elsewhere, "what others ran went on"


def where_it_is(handle: jcpeer.Handle, task: str | TaskRef) -> tuple[str, int]:
    """The node of the latest attempt, and its number."""
    latest = handle.task(task).attempts[-1]
    return latest.node.name, latest.number


def finishes(handle: jcpeer.Handle, *, count: int) -> list[Happened]:
    """The first events of tasks that finished."""
    found: list[Happened] = []
    for event in handle.events():
        if isinstance(event, Happened) and event.kind == "finished":
            found.append(event)
            if len(found) == count:
                break
    return found


def test_lost_outputs_are_made_again_if_they_are_needed(world: RealGrid, nodes: Three, gate: Gate) -> None:
    a, b, c = nodes
    application = jcpeer.Application("lineage")
    make = "head -c 200000 /dev/zero | tr '\\0' {0} > {0}"
    needed = application.command(make.format("n"), outputs=["n"], labels=on(b), name="needed")
    used = application.command(make.format("u"), outputs=["u"], labels=on(b), name="used")
    user = application.command(["wc", "-c", used.output("u")], labels=on(c), name="user")
    held = application.command(gate.command, labels=on(c), name="held", after=[needed, user])
    application.command(["wc", "-c", needed.output("n")], labels=on(c), name="last", after=[held])
    with a.connect() as grid:
        handle = grid.run(application, placement="local")
        eventually(lambda: handle.task("held").state == "running", within_s=10, what="both are made, one is used")
        b.kill()
        world.ensure("b", slots=2)
        gate.open()
        status = ended_well(handle)
        assert b"".join(handle.logs("last")).startswith(b"200000")
    assert [line.split(":")[0] for line in status.failures] == ["needed"], status.failures
    assert "its output is lost" in status.failures[0]


# --- tasks go wrong


def test_after_a_cancel_nothing_runs(world: RealGrid, nodes: Three, gate: Gate) -> None:
    with nodes[0].connect() as grid:
        handle = grid.run(gate.application("cancelled", tasks=9), placement="local")
        eventually(lambda: len(world.attempts()) == 6, within_s=10, what="all slots are taken")
        handle.cancel()
        assert handle.wait(timeout=10).summary.state == "cancelled"
        assert world.attempts() == {}


def test_a_single_task_is_cancelled_and_a_timeout_ends_daemons_too(world: RealGrid, nodes: Three, gate: Gate) -> None:
    application = jcpeer.Application("two ends")
    family = f"(setsid sh -c 'cd /; {' '.join(gate.command[2:])}' < /dev/null > /dev/null 2>&1 &); {gate.command[2]}"
    unwanted = application.command(family, name="unwanted")
    application.command(family, name="slow", timeout=1)
    application.command(["true"], name="unhurt")
    with nodes[0].connect() as grid:
        handle = grid.run(application, placement="local")
        eventually(lambda: list(world.attempts().values()).count("unwanted") >= 2, within_s=10, what="a daemon runs")
        handle.cancel(unwanted)
        status = handle.wait(timeout=10)
        assert world.attempts() == {}
        assert dict(status.summary.tasks).items() >= {"cancelled": 1, "failed": 1, "finished": 1}.items()
        assert handle.task("slow").attempts[0].text == "ran longer than 1 s"


def test_a_task_that_fails_is_tried_elsewhere_and_then_its_story_is_told(nodes: Three) -> None:
    application = jcpeer.Application("hopeless")
    bad = application.command("echo began; echo first >&2; echo last words >&2; exit 3", name="bad", retries=2)
    application.command(["true"], name="never", after=[bad])
    application.command(["sleep", "0.5"], name="other")
    with nodes[0].connect() as grid:
        handle = grid.run(application, placement="local")
        with pytest.raises(ApplicationFailedError, match="task bad: exit status 3") as failure:
            handle.result(timeout=20)
        status = handle.status()
        attempts = handle.task("bad").attempts
        assert b"".join(handle.logs("bad", attempt=2)) == b"began\n"
    assert {each.node.name for each in attempts} == {"a", "b", "c"}
    assert len(failure.value.story) == 3
    for attempt, line in zip(attempts, failure.value.story, strict=True):
        assert line.startswith(f"bad: attempt {attempt.number} on {attempt.node.name} failed")
        assert line.endswith("first\n    last words")
    assert dict(status.summary.tasks).items() >= {"failed": 1, "skipped": 1, "finished": 1}.items()


def test_on_failure_stop_ends_what_runs(world: RealGrid, nodes: Three, gate: Gate) -> None:
    application = gate.application("stop", tasks=3, on_failure="stop")
    application.command(["false"], after=[])
    with nodes[0].connect() as grid:
        status = grid.run(application, placement="local").wait(timeout=10)
        assert world.attempts() == {}
    assert dict(status.summary.tasks).items() >= {"failed": 1, "cancelled": 3}.items()


# --- people ask


def test_any_node_tells_what_a_task_prints_waits_for_and_left(nodes: Three, gate: Gate) -> None:
    a, b, c = nodes
    application = jcpeer.Application("asked")
    talk = application.command(f"echo hello; cat {gate.path}; echo bye", name="talk", labels=on(b))
    application.command("echo content > made", outputs=["made"], name="late", after=[talk], labels=on(c))
    application.command(["true"], name="nowhere", labels={"gpu": "a100"})
    with a.connect() as grid, c.connect() as elsewhere:
        app = grid.run(application, placement="local").id
        handle = elsewhere.handle(app)
        pieces = handle.logs("talk", follow=True)
        assert next(pieces) == b"hello\n"
        assert b"".join(handle.logs("talk")) == b"hello\n"
        eventually(
            lambda: handle.why("talk").reasons == ("attempt 1 runs on b",), within_s=2, what="it is known to have begun"
        )
        assert handle.why("late").reasons == ("task talk to finish first; it is running",)
        assert handle.why("nowhere").reasons == ("no node has the label gpu=a100",)
        with pytest.raises(RequestError, match="late has printed nothing yet: it is waiting"):
            list(handle.logs("late"))
        gate.open()
        assert b"".join(pieces) == b"bye\n"
        eventually(lambda: handle.task("late").state == "finished", within_s=5, what="late is done")
        with pytest.raises(RequestError, match=r"task late has ended \(finished\)"):
            handle.cancel("late")
        handle.cancel("nowhere")
        status = handle.wait(timeout=10)
        assert status.coordinator.name == "a"
        (made,) = handle.fetch(gate.path.parent / "fetched", "late")
        assert made.read_text() == "content\n"
        with pytest.raises(RequestError, match="asked has ended"):
            handle.cancel("late")
        with pytest.raises(RequestError, match="task late has no attempt 7; it has 1"):
            list(handle.logs("late", attempt=7))
        assert "asked" in {each.name for each in elsewhere.applications()}
