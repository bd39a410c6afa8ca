"""Does everything hold, whatever goes wrong? Run: python -m simulations.chaos --seeds 0..199 --jobs 2

World:       for each seed a small one: 4 to 7 whole nodes, 1 to 3 applications of up to 30 short tasks, of any shape
             and policy, each followed by two clients; and faults: crashes with and without the disk, power cuts,
             pauses, suspended machines, partitions of all shapes, connections that break, messages that come late,
             disks that are slow or full, all nodes at once, newcomers; many of them at a moment of the protocol, such
             as a takeover.
Expectation: no invariant is ever broken (`chaos_watch` says which there are), what a client was shown stays true, and
             after the faults every accepted application ends.
Reading:     the table counts what happened; `states` is the number of distinct states that the protocol was in. A seed
             that fails is printed with the rule that is broken and, with --shrink, the shortest history that still
             breaks it. Exit status 1 if there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import structlog
from attrs import define, field

from simulations.chaos_aims import drawn_plot
from simulations.chaos_play import Ending, play
from simulations.chaos_plot import Plot
from simulations.chaos_shrink import reduced, shrunk
from simulations.report import Table

PROGRESS_S = 5.0
FAILURES_MAX = 10
"""So many are told in full."""
COUNTED = (
    *(
        "applications",
        "attempts",
        "started once",
        "finished",
        "attempts lost",
        "outputs lost",
        "cancelled",
        "faults",
        "aimed faults",
    ),
    *("elected", "taken over", "takeovers in takeovers", "set change", "takeovers in set changes", "learner"),
    *("adopted from another", "truncated", "stalled", "steps down", "orders refused", "checks"),
    *(
        "handed over",
        "disks unsynced",
        "disks lost",
        "disks restored",
        "recovered",
        "reconciled",
        "named as run twice",
        "named as changed",
    ),
)


@define
class Tally:
    """What came of many seeds. Seconds are of this machine's CPU, but for `virtual_s`."""

    seeds: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    slowest_s: float = 0.0
    counts: Counter[str] = field(factory=Counter)
    states: set[int] = field(factory=set)
    digests: dict[int, str] = field(factory=dict)
    failures: list[tuple[int, list[str]]] = field(factory=list)

    def add(self, ending: Ending, cpu_s: float) -> None:
        """One more seed."""
        self.seeds += 1
        self.virtual_s += ending.virtual_s
        self.cpu_s += cpu_s
        self.slowest_s = max(self.slowest_s, cpu_s)
        self.counts.update(ending.counts)
        self.states |= ending.states
        self.digests[ending.seed] = ending.digest

    def join(self, other: dict[str, Any]) -> None:
        """What another process found, as `as_json` tells it."""
        self.seeds += other["seeds"]
        self.virtual_s += other["virtual_s"]
        self.cpu_s += other["cpu_s"]
        self.slowest_s = max(self.slowest_s, other["slowest_s"])
        self.counts.update(other["counts"])
        self.states.update(other["states"])
        self.digests |= {int(seed): digest for seed, digest in other["digests"].items()}
        self.failures += [(seed, lines) for seed, lines in other["failures"]]

    @property
    def digest(self) -> str:
        """Of all worlds."""
        return hashlib.sha256(json.dumps(sorted(self.digests.items())).encode()).hexdigest()

    def as_json(self) -> str:
        """For another process."""
        return json.dumps(
            {
                "seeds": self.seeds,
                "virtual_s": self.virtual_s,
                "cpu_s": self.cpu_s,
                "slowest_s": self.slowest_s,
                "counts": self.counts,
                "states": sorted(self.states),
                "digests": self.digests,
                "failures": self.failures,
            }
        )

    def as_text(self) -> str:
        """For a person."""
        others = sorted(name for name in self.counts if name not in COUNTED)
        rows = tuple((name, self.counts[name]) for name in (*COUNTED, *others))
        seconds = f"{self.virtual_s:,.0f} virtual s, {self.cpu_s:.1f} s of CPU"
        each = f"{self.cpu_s / max(1, self.seeds):.2f} s a seed, the slowest {self.slowest_s:.2f} s"
        return "\n".join(
            [
                *Table("chaos", ("what", "times"), rows).lines(),
                f"{self.seeds} seeds, {len(self.failures)} failed, {len(self.states):,} states; {seconds}: {each}",
                f"digest {self.digest[:16]}",
            ]
        )


def run(seeds: Iterable[int], *, shrink: bool = False, keep: Sequence[str] = (), quiet: bool = False) -> Tally:
    """Play these seeds, one after another."""
    tally, told_s = Tally(), time.monotonic()
    for seed in seeds:
        plot = drawn_plot(seed)
        if keep:
            plot = reduced(plot, keep)
        began_s = time.process_time()
        ending = play(plot)
        tally.add(ending, time.process_time() - began_s)
        if ending.problems:
            tally.failures.append((seed, told(plot, ending, shrink=shrink, keep=keep)))
            if not quiet:
                print(f"seed {seed}: {ending.problems[0]}", file=sys.stderr, flush=True)
        if not quiet and time.monotonic() - told_s > PROGRESS_S:
            told_s = time.monotonic()
            print(f"… {tally.seeds} seeds, {len(tally.failures)} failed", file=sys.stderr, flush=True)
    return tally


def told(plot: Plot, ending: Ending, *, shrink: bool, keep: Sequence[str] = ()) -> list[str]:
    """What went wrong with this plot and how it came, line by line."""
    replay = f"python -m simulations.chaos --seeds {plot.seed}"
    if shrink:
        rule = rule_of(ending)
        kept = shrunk(plot, lambda each: rule_of(play(each)) == rule)
        plot, keep = reduced(plot, kept), kept
        ending = play(plot)
    head = f"seed {plot.seed}: {len(ending.problems)} problems"
    again = f"again: {replay}{f' --keep {chr(44).join(keep)}' if keep else ' --shrink'}"
    problems = [f"  PROBLEM {each}" for each in ending.problems[:5]]
    return [head, *problems, *(f"  {each}" for each in (*plot.told(), *ending.history)), again]


def rule_of(ending: Ending) -> str:
    """The name of the rule that was broken first; "" where none was."""
    return ending.problems[0].partition(":")[0] if ending.problems else ""


def run_in_processes(seeds: range, jobs: int, *, shrink: bool) -> Tally:
    """The same, in so many processes at a time: each takes a part of the seeds."""
    size = -(-len(seeds) // jobs)
    parts = [seeds[at : at + size] for at in range(0, len(seeds), size)]
    commands = [
        [sys.executable, "-m", "simulations.chaos", "--json", "--seeds", f"{part[0]}..{part[-1]}"]
        + ["--shrink"] * shrink
        for part in parts
    ]
    children = [subprocess.Popen(each, stdout=subprocess.PIPE, text=True) for each in commands]
    tally = Tally()
    for child in children:
        text, _ = child.communicate()
        if not text:
            sys.exit(child.returncode or 1)
        tally.join(json.loads(text))
    return tally


def _seeds(text: str) -> range:
    first, dots, last = text.partition("..")
    try:
        return range(int(first), int(last if dots else first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no range of seeds; write A..B") from None


def main() -> NoReturn:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--seeds", type=_seeds, default=range(200), help="A..B, both included (default: 0..199)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    parser.add_argument("--shrink", action="store_true", help="look for the shortest history of a seed that fails")
    parser.add_argument("--keep", default="", help="of the plot, these parts alone, as a failure names them")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    chosen = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    began_s = time.monotonic()
    if chosen.jobs > 1 and len(chosen.seeds) > 1 and not chosen.keep:
        tally = run_in_processes(chosen.seeds, chosen.jobs, shrink=chosen.shrink)
    else:
        keep = tuple(filter(None, chosen.keep.split(",")))
        tally = run(chosen.seeds, shrink=chosen.shrink, keep=keep)
    if chosen.json:
        print(tally.as_json())
    else:
        for _, lines in tally.failures[:FAILURES_MAX]:
            print(*lines, sep="\n", end="\n\n")
        print(tally.as_text())
        print(f"took {time.monotonic() - began_s:.1f} s", file=sys.stderr)
    sys.exit(1 if tally.failures else 0)


if __name__ == "__main__":
    main()
