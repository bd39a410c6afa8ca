"""What is done to the nodes while they work, and what must hold all the same."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from attrs import frozen
from demo_parts.errors import DemoError

from drill_parts.figures import Figure, count, duration, promise
from drill_parts.halves import Halves
from drill_parts.nodes import DrillNode
from drill_parts.runs import Account, Drill, Run
from jcpeer.client.blocking import deadline

DURING_S = 0.1
"""Into a takeover, which takes a little longer."""
PAUSE_S = 30.0
CUT_S = 60.0
LOOK_S = 0.02
SUCCESSION = re.compile(r"(?P<successor>\S+) took over at epoch (?P<epoch>\d+)")
"""As an event says it, for people."""


@frozen
class Scenario:
    """`drill` is of one grid; with `in_halves` its nodes are in two halves of a network."""

    name: str
    title: str
    play: Callable[[Drill, int], list[Figure]]


def coordinator_killed(drill: Drill, runs: int) -> list[Figure]:
    title = "coordinator killed"
    accounts: list[Account] = []
    waits: list[float] = []
    for number in range(1, runs + 1):
        run = drill.submit(seconds=0.25)
        run.follower.await_finished(drill.tasks // 3)
        victim = run.coordinator()
        at_s = _kill(drill, run, victim)
        _tell_takeover(drill, run, since_s=at_s)
        account = _account(drill, run)
        accounts.append(account)
        waits.append(account.first_order_s - at_s)
        drill.tell(f"the first order of epoch {account.status.epoch} came {waits[-1]:.2f} s after the kill")
        drill.tidy_up()
        if runs > 1:
            drill.tell(f"{number} of {runs} runs")
    return [*_promises(title, accounts), duration(title, "kill to first order", waits, median_s=0.5, worst_s=3.0)]


def two_in_a_row(drill: Drill, runs: int) -> list[Figure]:
    title = "two in a row, 5 replicas"
    run = drill.submit(seconds=0.4, replicas=5)
    run.follower.await_finished(drill.tasks // 3)
    status = run.status()
    first = drill.nodes[status.coordinator.name]
    next_in_rank = [each.node.name for each in status.replicas if each.node.name != first.name]
    second = drill.nodes[status.ftc.name if status.ftc else next_in_rank[0]]
    at_s = _kill(drill, run, first)
    time.sleep(DURING_S)
    again_at_s = second.kill()
    drill.tell(f"kill -9 {second.process.pid}, {again_at_s - at_s:.2f} s later: that was {second.name}, next in rank")
    _tell_takeover(drill, run, since_s=at_s, but=second)
    account = _account(drill, run)
    wait_s = account.first_order_s - at_s
    return [*_promises(title, [account]), duration(title, "first kill to first order", [wait_s], worst_s=8.0)]


def coordinator_stopped(drill: Drill, runs: int) -> list[Figure]:
    title = f"coordinator stopped for {PAUSE_S:.0f} s"
    run = drill.submit(seconds=0.9)
    run.follower.await_finished(drill.tasks // 20)
    victim = run.coordinator()
    at_s = victim.stop()
    drill.tell(f"kill -STOP {victim.process.pid}: that is {victim.name}, the coordinator")
    epoch = _tell_takeover(drill, run, since_s=at_s)
    copies_s = run.await_copies(3, without=victim, since_s=at_s)
    time.sleep(max(0.0, at_s + PAUSE_S - time.time()))
    shown = len(run.follower.finished_at_s)
    woken_at_s = victim.wake()
    drill.tell(f"kill -CONT {victim.process.pid}, with {shown} of {drill.tasks} tasks finished meanwhile")
    step_down_s = _obeys(drill, run, victim, since_s=woken_at_s)
    account = _account(drill, run, victim)
    later = len(run.follower.takeovers(after_s=woken_at_s))
    changed = later + (account.status.epoch != epoch)
    return [
        *_promises(title, [account]),
        promise(title, "takeovers or epochs after it woke", [changed]),
        duration(title, "stop to first order", [account.first_order_s - at_s], median_s=3.5, worst_s=8.0),
        duration(title, "3 copies again", [copies_s], worst_s=30.0),
        duration(title, "woken to stepped down", [step_down_s], worst_s=2.0),
    ]


def all_killed(drill: Drill, runs: int) -> list[Figure]:
    title = "all nodes killed, then started"
    run = drill.submit(seconds=0.4)
    run.follower.await_finished(drill.tasks // 2)
    drill.nodes.kill_all()
    shown = len(run.follower.finished_at_s)
    drill.tell(
        f"kill -9 of all {len(drill.nodes.by_name)} nodes, with {shown} of {drill.tasks} tasks shown as finished"
    )
    drill.nodes.start_again()
    at_s = time.time()
    drill.tell("all are started again, and told nothing")
    run.follower.await_finished(shown + 1)
    goes_on_s = time.time() - at_s
    drill.tell(f"it goes on by itself: {len(run.follower.finished_at_s)} tasks finished")
    account = _account(drill, run)
    return [*_promises(title, [account]), duration(title, "all listen to next task shown", [goes_on_s], worst_s=10.0)]


def halves_cut(drill: Drill, halves: Halves, home: DrillNode) -> list[Figure]:
    """The coordinator, `home`, is alone on the left with its copy; both others are on the right."""
    title = f"halves cut for {CUT_S:.0f} s"
    right = [each for each in drill.nodes if each.half is halves.right]
    run = drill.submit(seconds=1.2, at=home, placement="local", among=right)
    copies = [drill.nodes[each.node.name] for each in run.status().replicas if each.node.name != home.name]
    if len(copies) != 2 or any(each.half is not halves.right for each in copies):
        raise DemoError(f"the copies are at {', '.join(each.name for each in copies)}: both should be on the right")
    left = run.follow_at(next(each for each in drill.nodes if each.half is halves.left and each is not home))
    run.follower.await_finished(drill.tasks // 20)
    left.await_finished(drill.tasks // 20)

    at_s = time.time()
    halves.set_cable(plugged=False)
    drill.tell(
        f"the cable between the halves is pulled: {home.name} coordinates on the left, its copies are on the right"
    )
    _tell_takeover(drill, run, since_s=at_s)
    over_at_s = time.time()
    stalled_s = left.wait(lambda: [each for each in left.stalled_at_s if each > at_s], within_s=CUT_S, what="stalled")[
        0
    ]
    drill.tell(f"{left.node.name}, on the left, says that it is stalled, {stalled_s - at_s:.1f} s after the cut")
    time.sleep(max(0.0, at_s + CUT_S - time.time()))
    left_acknowledged = sum(over_at_s < shown_s for shown_s, _ in left.shown)
    right_acknowledged = sum(over_at_s < shown_s for shown_s, _ in run.follower.shown)
    drill.tell(
        f"during the cut {right_acknowledged} events are shown on the right, and {left_acknowledged} on the left"
    )

    healed_at_s = time.time()
    halves.set_cable(plugged=True)
    drill.tell("the cable is plugged in")
    one_s = _obeys(drill, run, home, since_s=healed_at_s)
    account = _account(drill, run, *(each for each in drill.nodes if each.half is halves.left))
    return [
        *_promises(title, [account]),
        promise(title, "events that the smaller side showed", [left_acknowledged]),
        promise(title, "the larger side went on", [int(right_acknowledged > 0)], wanted=1),
        duration(title, "cut to first order", [account.first_order_s - at_s], median_s=3.5, worst_s=8.0),
        duration(title, "cut to stalled, on the smaller side", [stalled_s - at_s], worst_s=10.0),
        duration(title, "healed to one coordinator", [one_s], worst_s=5.0),
    ]


SCENARIOS = (
    Scenario("kill", "the coordinator is killed half way", coordinator_killed),
    Scenario("twice", "two coordinators in a row are killed", two_in_a_row),
    Scenario("stop", "the coordinator is stopped for a while, then woken", coordinator_stopped),
    Scenario("restart", "all nodes are killed, and started again", all_killed),
)


# --- steps


def _kill(drill: Drill, run: Run, victim: DrillNode) -> float:
    shown = len(run.follower.finished_at_s)
    at_s = victim.kill()
    drill.tell(
        f"kill -9 {victim.process.pid}: that was {victim.name}, the coordinator; "
        f"{shown} of {drill.tasks} tasks are shown as finished"
    )
    return at_s


def _tell_takeover(drill: Drill, run: Run, *, since_s: float, but: DrillNode | None = None) -> int:
    """Its epoch. `but`: it was killed, so the takeover of another one is waited for."""

    def taken_over() -> re.Match[str] | None:
        said = (SUCCESSION.search(each.text) for each in run.follower.takeovers(after_s=since_s))
        return next((each for each in said if each and (but is None or each["successor"] != but.name)), None)

    said = run.follower.wait(taken_over, within_s=60.0, what="another node took over")
    drill.tell(f"{said.string}; shown {time.time() - since_s:.2f} s after")
    return int(said["epoch"])


def _obeys(drill: Drill, run: Run, node: DrillNode, *, since_s: float) -> float:
    """How long until this node itself names the coordinator that the others know."""
    with node.client() as grid, deadline(60.0):
        while (named := grid.handle(run.app).status().coordinator.name) == node.name:
            time.sleep(LOOK_S)
    drill.tell(f"{node.name} says that {named} coordinates")
    return time.time() - since_s


def _account(drill: Drill, run: Run, *out_of_reach: DrillNode) -> Account:
    account = run.await_account(out_of_reach=out_of_reach)
    how = "well" if account.ended_well else "badly"
    drill.tell(
        f"{run.work.application.name} ended {how} at epoch {account.status.epoch}: "
        f"{account.lost_or_changed} acknowledgements lost or changed, {account.run_again} finished tasks run again, "
        f"{account.cut_short} attempts elsewhere cut short, {account.outrun} by another of their task that was sooner"
    )
    if out_of_reach:
        drill.tell(f"where nobody could be told, {account.apart} attempts ran in vain")
    return account


def _promises(title: str, accounts: list[Account]) -> list[Figure]:
    return [
        promise(title, "applications that end well", [int(each.ended_well) for each in accounts], wanted=1),
        promise(title, "acknowledgements lost, or changed later", [each.lost_or_changed for each in accounts]),
        promise(title, "finished tasks run again", [each.run_again for each in accounts]),
        promise(title, "attempts on other nodes cut short", [each.cut_short for each in accounts]),
        count(title, "attempts outrun by a second one of their task", [each.outrun for each in accounts]),
    ]
