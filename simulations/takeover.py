"""Does an application survive its coordinator, and how soon? Run: python -m simulations.takeover --kind kill --runs 20

World:       for each run a grid of its own: 10 nodes of 2 cores, links of 0.5 to 2 ms, disks that take 1 ms for a
             group; an application of 60 tasks of 0.1 to 1 s in three layers, whose outputs are in turn small and
             large, with 3 replicas and a quorum, submitted at a node that keeps no copy. When some 5 to 35 of its
             tasks have finished, one of these happens to the node that coordinates: `kill`, its process ends, and
             redials are refused; `stop`, its process stands still for 30 s; `cut`, nothing goes between it and all
             others for 30 s; `leave`, it is asked to end, as by SIGTERM. Or a `replica` that does not coordinate is
             killed; or, of five, `two` coordinators in a row. Where that takes half a minute a chain of tasks of 6 s
             runs beside the others.
Expectation: every application ends "ok"; nothing that was told is lost or changes, nothing runs again that is there,
             nothing is killed; who was stopped or cut off changes nothing when it is back.
Reading:     times are from the event; what has a target stands beside it. A promise that was broken is a problem, with
             the seed (`--seed N --runs 1` plays it again); a slow time is shown, and is none.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import cast

import structlog
import trio
from attrs import frozen

from simulations.report import Cell, Findings, Table, quantile
from simulations.scenario import PROGRESS_S, Options, few_collections, main, option
from simulations.takeover_play import AWAY_S, KINDS, Ending, Kind, play

STEPPED_DOWN_S_MAX = 2.0
ONE_S_MAX = 5.0
WHOLE_S_MAX = 30.0


@frozen
class TakeoverOptions(Options):
    kind: str = option("all", "what happens to the coordinator", choices=("all", *KINDS))
    runs: int = option(20, "of each kind; each has the next seed", at_least=1)
    nodes: int = option(10, "in the grid, of 2 cores each", at_least=6)
    tasks: int = option(60, "of the application", at_least=30)
    jobs: int = option(1, "processes at a time", at_least=1)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return KINDS if self.kind == "all" else (cast(Kind, self.kind),)


async def simulate(options: TakeoverOptions) -> Findings:
    """Each run is a world with its own clock, so it has a process that knows of no other one."""
    await trio.lowlevel.checkpoint()
    asked = [
        (kind, seed, options.nodes, options.tasks)
        for kind in options.kinds
        for seed in range(options.seed, options.seed + options.runs)
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context, initializer=_quieten) as pool:
        return found(list(_counted(pool.map(_play, asked), len(asked))))


def _quieten() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _play(asked: tuple[Kind, int, int, int]) -> Ending:
    kind, seed, nodes, tasks = asked
    with few_collections():
        return play(kind, seed, nodes=nodes, tasks=tasks)


def _counted(endings: Iterable[Ending], in_all: int) -> Iterator[Ending]:
    told_s, bad = time.monotonic(), 0
    for number, each in enumerate(endings, 1):
        if wrong := objections(each):
            bad += 1
            print(f"{each.kind} {each.seed}: {wrong[0]}", file=sys.stderr, flush=True)
        if time.monotonic() - told_s > PROGRESS_S:
            told_s = time.monotonic()
            print(f"… {number} of {in_all} runs, {bad} with problems", file=sys.stderr, flush=True)
        yield each


# --- what is told


def found(endings: Sequence[Ending]) -> Findings:
    """The tables over these runs, and what is wrong with them."""
    kinds = [kind for kind in KINDS if any(each.kind == kind for each in endings)]
    tables = tuple([_table(kind, [each for each in endings if each.kind == kind]) for kind in kinds])
    problems = [f"{each.kind} {each.seed}: {text}" for each in endings for text in objections(each)]
    digest = hashlib.sha256("".join(each.digest for each in endings).encode()).hexdigest()
    return Findings(digest, sum(each.events for each in endings), tables, problems=problems)


def objections(ending: Ending) -> list[str]:
    """Promises that were broken; times are none."""
    broken = {
        f"it ended {ending.state}": ending.state != "ok",
        f"{ending.lost} completions that were told are lost": ending.lost,
        f"{ending.differ} events were shown otherwise before": ending.differ,
        f"{ending.again} executions of what was there already": ending.again,
        f"{ending.killed} executions were killed": ending.killed,
        f"{ending.stale} executions were ordered by who coordinates no more": ending.stale,
        f"{ending.shown_alone} events were shown by who was cut off": ending.shown_alone,
        "it never stepped down": ending.kind in ("stop", "cut") and ending.stepped_down_s is None,
        "there was never one coordinator again": ending.kind in ("stop", "cut") and ending.one_s is None,
        "there were never as many copies again": ending.kind == "replica" and ending.whole_s is None,
    }
    return [*(text for text, is_so in broken.items() if is_so), *ending.problems]


Row = tuple[str, Cell, str]


def _table(kind: Kind, endings: Sequence[Ending]) -> Table:
    runs = len(endings)

    def total(of: Callable[[Ending], int]) -> int:
        return sum(map(of, endings))

    rows: list[Row] = [
        ("runs", runs, ""),
        ("ended ok", total(lambda each: each.state == "ok"), "all"),
        ("completions lost that were told", total(lambda each: each.lost), "0"),
        ("events shown that differ later", total(lambda each: each.differ), "0"),
        ("executions of what was there", total(lambda each: each.again), "0"),
        ("executions killed elsewhere", total(lambda each: each.killed), "0"),
    ]
    if kind == "replica":
        rows += _times("as many copies again", [each.whole_s for each in endings], worst_s=WHOLE_S_MAX)
        rows.append(("takeovers", total(lambda each: each.takeovers), "0"))
        return Table(kind, ("what", "found", "target"), tuple(rows))
    silent = kind in ("stop", "cut")
    p50_s, p99_s = (3.5, 8.0) if silent else (0.5, 2.0)
    rows += _times("successor coordinates", [each.reigned_s for each in endings])
    rows += _times("its first attempt goes out", [each.dispatched_s for each in endings], p50_s=p50_s, p99_s=p99_s)
    rows.append(("nothing was left to send out", total(lambda each: each.dispatched_s is None), ""))
    rows += _times("application ends", [each.ended_s for each in endings])
    if kind == "leave":
        rows += _times("nobody coordinates", [each.gap_s for each in endings])
    if silent:
        stepped = [each.stepped_down_s for each in endings]
        worst_s = STEPPED_DOWN_S_MAX if kind == "stop" else ONE_S_MAX  # who was cut off has to be reached first
        rows += _times(f"after {AWAY_S:.0f} s: it steps down", stepped, worst_s=worst_s)
        rows += _times("one coordinates", [each.one_s for each in endings], worst_s=ONE_S_MAX)
        rows.append(("executions elsewhere that it orders", total(lambda each: each.stale), "0"))
        rows.append(("events shown by it meanwhile", total(lambda each: each.shown_alone), "0"))
    return Table(kind, ("what", "found", "target"), tuple(rows))


def _times(
    what: str,
    seconds: Iterable[float | None],
    *,
    p50_s: float | None = None,
    p99_s: float | None = None,
    worst_s: float | None = None,
) -> list[Row]:
    known = [each for each in seconds if each is not None]
    if not known:
        return [(f"{what}, s", None, "")]

    def target(at_most_s: float | None) -> str:
        return f"<= {at_most_s:g}" if at_most_s is not None else ""

    return [
        (f"{what}, s: p50", quantile(known, 0.5), target(p50_s)),
        (f"{what}, s: p99", quantile(known, 0.99), target(p99_s)),
        (f"{what}, s: worst", max(known), target(worst_s)),
    ]


if __name__ == "__main__":
    main(__doc__, TakeoverOptions, simulate)
