"""Nothing that was promised breaks, whatever goes wrong; and what would break it is found, and told in few lines."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from jcpeer.ft.memory_disk import MemoryDisk
from jcpeer.work.participant import ParticipantMachine
from simulations.chaos import rule_of, run
from simulations.chaos_aims import drawn_plot
from simulations.chaos_play import play
from simulations.chaos_plot import Episode, Plot, When, Wish, chance_plot
from simulations.chaos_shrink import parts_of, reduced, shrunk
from simulations.faults import Crash, Start
from simulations.workloads import chains


@pytest.fixture(autouse=True)
def _few_log_lines() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


def chaos_in_process(*options: str, hash_seed: str = "0") -> tuple[dict[str, Any], str]:
    """What `python -m simulations.chaos` finds, and what it says of failures."""
    command = [sys.executable, "-m", "simulations.chaos", *options, "--json"]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    found = dict(json.loads(ran.stdout))
    return found, "\n".join(line for _, lines in found["failures"] for line in lines)


FEW = (1005, 1007, 1015, 1023, 1027, 1034, 1035, 1045)
"""In these happens what seldom does, each of it in two or more."""


def test_whatever_goes_wrong_what_was_promised_holds() -> None:
    tally = run(FEW, quiet=True)
    assert tally.failures == []
    for each in ("takeovers in takeovers", "takeovers in set changes", "reconciled", "handed over", "disks restored"):
        assert tally.counts[each] > 0, each


@pytest.mark.real
def test_two_hundred_seeds_hold() -> None:
    found, told = chaos_in_process("--seeds", "0..199", "--jobs", "2", "--shrink")
    assert found["seeds"] == 200
    assert not told, told
    assert found["counts"]["taken over"] > 20


@pytest.mark.real
def test_the_same_seeds_are_the_same_worlds_in_another_process() -> None:
    one, same = (chaos_in_process("--seeds", "3..8", hash_seed=each)[0] for each in ("1", "2"))
    for each in (one, same):
        del each["cpu_s"], each["slowest_s"]
    assert one == same
    assert len(set(one["digests"].values())) == 6


@pytest.mark.parametrize("seed", [2, 41, 127, 143])
def test_a_seed_that_found_something_holds(seed: int) -> None:
    """2: a copy was kept as ended before its disk had the end. 41: a node that came back began an application anew, of
    which it had a copy. 127 and 143: a node crashed between the promise of the first epoch and the first entry; nobody
    could go on from a promise alone, and the seats that had nothing did not vote."""
    assert play(chance_plot(seed)).problems == ()


@pytest.mark.long
@pytest.mark.parametrize("seed", [65, 227, 601, 641, 668, 837, 1059, 1077, 1289, 2045, 2164, 2541, 2607, 2949])
def test_a_seed_with_an_aim_that_found_something_holds(seed: int) -> None:
    """65: who followed the losing side of a split was told of the other by its own node, and asked nobody there.
    227: what a copy that went on alone by its user's word had committed was taken for a promise of all. 601: the
    side that gave way alone had been given the tasks. 641: a recovered reign was heard of, and its node fell before
    its disk knew. 668: a newcomer that had got many entries at once handed the small output of one of them on with
    the first. 837: who had seen more events than there were in the end waited for it for ever. 1059: a quorum was
    not formed before a copy had dropped what differed, and that not before what came of it was committed by the
    quorum. 1077: the user had a copy go on that had nothing. 1289: an end that an obsolete coordinator told
    released a participant from the next one. 2045: who followed the losing side of a split heard of no other. 2164:
    a later seat stood for the first epoch. 2541: a copy was dropped while what it ended in was read, and whoever
    followed it kept its node busy for ever. 2607: the first seat was gone, and nobody else was handed the
    application. 2949: a set that too few journals had could not be proven, nor the one before without the vote of
    the seat that it took away."""
    assert play(drawn_plot(seed)).problems == ()


def test_a_submission_whose_seat_was_lost_meanwhile_is_accepted_where_it_went() -> None:
    """Seed 108: its node was away, and others went on with it; when it was back it had neither the application nor a
    word of who had, and asked nobody."""
    kept = ["e3", "a0", "a1", "a0.t4", "a1.t0", "a1.t1", "a1.t2", "n0", "n1", "n2", "n3"]
    assert play(reduced(chance_plot(108), kept)).problems == ()


def test_a_disk_that_forgets_what_was_told_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = MemoryDisk.after_crash

    def forgetful(disk: MemoryDisk) -> MemoryDisk:
        left = whole(disk)
        for copy in left._copies.values():
            del copy.entries[-3:]
        return left

    monkeypatch.setattr(MemoryDisk, "after_crash", forgetful)
    tasks = chains(1, 5, seconds=1.0).tasks
    wish = Wish("a0", 0.0, "n0", "n1", "local", "assign", 1, "default", "a chain", tasks)
    killed = Episode(When("a0", "finished", 2), 1.0, (Crash("n0"),), (Start("n0"),))
    assert rule_of(play(Plot(1, ("n0", "n1"), (wish,), (killed,)))) == "I3"


def test_a_plot_can_be_played_without_any_of_its_parts() -> None:
    plot = drawn_plot(2)
    whole = [part for group in parts_of(plot) for part in group]
    assert reduced(plot, whole) == plot
    bare = reduced(plot, [plot.wishes[0].name])
    assert (len(bare.nodes), len(bare.wishes), len(bare.wishes[0].tasks), bare.episodes) == (1, 1, 1, ())
    assert play(bare).problems == ()


def test_the_shrinker_finds_the_few_parts_that_matter() -> None:
    plot = next(
        each
        for each in map(drawn_plot, range(100))
        if len(each.episodes) > 5 and len(each.wishes) > 1 and len(each.wishes[1].tasks) > 5
    )
    wanted = {"e2", "e4", plot.wishes[1].name, f"{plot.wishes[1].name}.t5"}

    def fails(each: Plot) -> bool:
        episodes = each.episodes
        asked = {f"{wish.name}.{task.id}" for wish in each.wishes for task in wish.tasks}
        return plot.episodes[2] in episodes and plot.episodes[4] in episodes and f"{plot.wishes[1].name}.t5" in asked

    assert set(shrunk(plot, fails)) - {*plot.nodes} == wanted


def test_the_participants_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsound(machine: ParticipantMachine) -> None:
        raise AssertionError("a slot is used twice")

    monkeypatch.setattr(ParticipantMachine, "check", unsound)
    problems = play(drawn_plot(0)).problems
    assert "a participant is unsound: a slot is used twice" in problems[0]
