"""Claims, grants and shares of one node's slots."""

from __future__ import annotations

import math
import random

import pytest

from jcpeer.ids import AppId
from jcpeer.work.claims import LEASE_S, LEASE_WANTED_S, QUANTUM_S, REMEMBERED_S, Claims

A, B, C = AppId("a"), AppId("b"), AppId("c")


class Driver:
    """Claims with a clock, looked at after each step."""

    def __init__(self, slots: int = 4, *, half_life_s: float = 600.0) -> None:
        self.claims = Claims(slots, half_life_s=half_life_s)
        self.now_s = 0.0

    def claim(self, app: AppId, slots: int = 0, *, user: str | None = None, at_once: int = 1) -> int:
        user = user or f"user of {app}"
        self.claims.claim(app, user=user, name=f"app {app}", slots=slots, at_once=at_once, now_s=self.now_s)
        self.claims.check()
        return self.claims.granted(app)

    def run(self, app: AppId, count: int = 1, *, slots: int = 1) -> None:
        for _ in range(count):
            self.claims.came(app, slots, now_s=self.now_s)
            assert self.claims.may_start(app, slots)
            self.claims.started(app, slots, now_s=self.now_s)
            self.claims.check()

    def end(self, app: AppId, count: int = 1, *, slots: int = 1) -> None:
        for _ in range(count):
            self.claims.ended(app, slots, now_s=self.now_s)
            self.claims.check()

    def later(self, seconds: float) -> None:
        self.now_s += seconds
        self.claims.tick(now_s=self.now_s)
        self.claims.check()

    def changes(self) -> dict[AppId, int]:
        return {each.app: self.claims.granted(each.app) for each in self.claims.take_changes()}


def test_an_application_that_is_alone_gets_all_slots_at_once() -> None:
    drive = Driver()
    assert drive.claim(A) == 4
    assert drive.changes() == {A: 4}


def test_the_first_claim_wins_and_the_loser_gets_what_falls_free() -> None:
    drive = Driver()
    assert drive.claim(A, 3) == 3
    assert drive.claim(B, 3) == 1
    assert drive.claim(C, 1) == 0
    assert drive.claims.holders(C) == "has no slot free: app a of user of a, app b of user of b claimed them"
    drive.changes()
    drive.claims.release(A, now_s=drive.now_s)
    assert drive.changes() == {B: 3, C: 1}


def test_more_work_than_was_claimed_is_a_claim_for_more() -> None:
    drive = Driver()
    assert drive.claim(A, 1) == 1
    drive.claims.came(A, 1, now_s=0.0)
    drive.claims.came(A, 1, now_s=0.0)
    assert drive.claims.granted(A) == 2


def test_a_grant_that_is_not_used_lapses_and_sooner_if_another_waits() -> None:
    drive = Driver(slots=1)
    drive.claim(A)
    drive.changes()
    drive.later(LEASE_S - 0.1)
    assert drive.claims.granted(A) == 1
    drive.later(0.1)
    assert drive.changes() == {A: 0}
    drive.claim(A)
    drive.claim(B)
    drive.changes()
    drive.later(LEASE_WANTED_S)
    assert drive.changes() == {A: 0, B: 1}


def test_a_grant_in_use_does_not_lapse() -> None:
    drive = Driver(slots=1)
    drive.claim(A)
    drive.run(A)
    drive.later(100.0)
    assert drive.claims.granted(A) == 1


def test_a_claim_that_is_not_repeated_is_forgotten() -> None:
    drive = Driver(slots=1)
    drive.claim(A)
    drive.run(A)
    drive.claim(B)
    drive.later(REMEMBERED_S)
    assert B not in drive.claims
    assert A in drive.claims


def test_a_newcomer_gets_its_share_as_attempts_end_and_not_before_the_quantum() -> None:
    drive = Driver()
    drive.claim(A)
    drive.run(A, 4)
    drive.later(0.5)
    assert drive.claim(B) == 0
    drive.later(QUANTUM_S - 0.6)
    assert drive.claims.granted(A) == 4
    drive.later(0.2)
    assert drive.claims.granted(A) < 4
    assert drive.claims.granted(B) == 0
    drive.end(A)
    assert drive.claims.granted(B) == 1
    drive.end(A)
    assert drive.claims.granted(B) == 2


def test_slots_that_are_granted_but_of_no_use_go_to_who_can_use_them() -> None:
    drive = Driver()
    drive.claim(A)
    drive.run(A)
    drive.claim(B)
    drive.later(QUANTUM_S)
    assert (drive.claims.granted(A), drive.claims.granted(B)) == (1, 3)


def test_wide_attempts_get_their_slots_together_and_are_not_passed_for_ever() -> None:
    drive = Driver()
    drive.claim(A)
    drive.run(A, 4)
    drive.later(QUANTUM_S)
    drive.claim(B, 4, at_once=4)
    for _ in range(40):
        if drive.claims.granted(B):
            break
        drive.later(0.5)
        if drive.claims.granted(A):
            drive.end(A)
            drive.run(A)
        else:
            busy = next(each.busy for each in drive.claims if each.app == A)
            drive.end(A, min(busy, 1))
    assert drive.claims.granted(B) == 4


def test_while_it_is_closed_nothing_is_granted_and_what_runs_goes_on() -> None:
    drive = Driver()
    drive.claim(A, 2)
    drive.run(A, 2)
    drive.claims.close("closed", 5.0, now_s=0.0)
    drive.claims.check()
    assert drive.claim(B) == 0
    assert drive.claims.holders(B) == "closed"
    drive.end(A)
    drive.claims.reopen(now_s=1.0)
    drive.claims.check()
    assert (drive.claims.granted(A), drive.claims.granted(B)) == (2, 2)


class Crowd(Driver):
    """Applications with tasks of so many seconds, all of them at once and without end, on one node."""

    def __init__(self, slots: int, seconds: dict[AppId, tuple[str, float]], *, seed: int = 0) -> None:
        super().__init__(slots)
        self.random = random.Random(seed)
        self.seconds = seconds
        self.from_s = dict.fromkeys(seconds, 0.0)
        self.ends: list[tuple[float, AppId]] = []
        self.slot_s = dict.fromkeys(seconds, 0.0)

    def pass_time(self, until_s: float) -> None:
        while self.now_s < until_s:
            for app, (user, mean_s) in self.seconds.items():
                if self.now_s < self.from_s[app]:
                    continue
                if app not in self.claims or not self.claims.granted(app):
                    self.claim(app, user=user)
                claim = next(each for each in self.claims if each.app == app)
                while claim.waiting < max(1, claim.granted):
                    self.claims.came(app, 1, now_s=self.now_s)
                while self.claims.may_start(app, 1) and claim.waiting:
                    self.claims.started(app, 1, now_s=self.now_s)
                    self.ends.append((self.now_s + mean_s * self.random.uniform(0.5, 1.5), app))
                self.slot_s[app] += 0.1 * claim.busy
            self.later(0.1)
            for each in sorted(each for each in self.ends if each[0] <= self.now_s):
                self.ends.remove(each)
                self.end(each[1])


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_users_get_equal_slot_seconds_whatever_their_tasks_take(slots: int) -> None:
    crowd = Crowd(slots, {A: ("ann", 0.7), B: ("bob", 8.0)})
    crowd.from_s[B] = 60.0
    crowd.pass_time(60.0)
    crowd.slot_s[A] = 0.0
    crowd.pass_time(660.0)
    assert math.isclose(crowd.slot_s[A], crowd.slot_s[B], rel_tol=0.1), crowd.slot_s
    assert sum(crowd.slot_s.values()) > 0.97 * slots * 600


def test_ten_applications_of_a_user_get_no_more_than_one_and_share_that_equally() -> None:
    many = {AppId(f"a{at}"): ("ann", 1.0) for at in range(10)}
    crowd = Crowd(4, {**many, B: ("bob", 1.0)})
    crowd.pass_time(600.0)
    of_ann = [crowd.slot_s[each] for each in many]
    assert math.isclose(sum(of_ann), crowd.slot_s[B], rel_tol=0.1)
    assert max(of_ann) < 1.3 * min(of_ann)


def test_old_use_is_forgiven_by_and_by() -> None:
    """Who got more because it could use more owes for a while, and not for ever."""
    after: dict[float, float] = {}
    for pause_s in (0.0, 36_000.0):
        crowd = Crowd(1, {A: ("ann", 200.0), B: ("bob", 1.0)})
        crowd.pass_time(90.0)  # one of ann's tasks has run the while
        owed_s = crowd.slot_s[A] - crowd.slot_s[B]
        assert owed_s > 80
        crowd.seconds[A] = ("ann", 1.0)
        crowd.ends = [(0.0, app) for _, app in crowd.ends]
        crowd.now_s += pause_s
        crowd.slot_s = dict.fromkeys(crowd.slot_s, 0.0)
        crowd.pass_time(crowd.now_s + 60.0)
        after[pause_s] = crowd.slot_s[B]
    assert after[0.0] > 50
    assert after[36_000.0] < 50


def test_who_yields_keeps_its_slots_until_another_wants_them() -> None:
    drive = Driver()
    drive.claim(A)
    drive.run(A, 2)
    drive.claims.give_way(A, now_s=drive.now_s)
    assert drive.claims.granted(A) == 4
    assert drive.claim(B, 1) == 1
    assert drive.claims.granted(A) == 2, "what is under way stays"


def test_what_one_that_yielded_has_no_use_for_is_anothers_the_moment_that_an_attempt_ends() -> None:
    drive = Driver()
    drive.claim(A)
    drive.run(A, 4)
    assert drive.claim(B) == 0
    drive.changes()
    drive.claims.give_way(A, now_s=drive.now_s)
    assert drive.changes() == {}
    drive.end(A)
    assert drive.changes() == {A: 3, B: 1}


def test_orders_come_to_one_that_yielded_as_to_any_other_and_a_claim_makes_it_one() -> None:
    drive = Driver()
    drive.claim(A)
    drive.claims.give_way(A, now_s=drive.now_s)
    drive.claim(B)
    assert drive.changes() == {A: 0, B: 4}
    drive.run(B, 4)
    drive.claims.came(A, 1, now_s=drive.now_s)
    drive.later(QUANTUM_S)
    assert drive.changes() == {B: 3}
    drive.end(B, 2)
    assert drive.changes() == {A: 1}, "and no more, as long as nothing more comes"
    drive.claim(A)
    assert drive.claims.granted(A) == 1
    drive.later(QUANTUM_S)
    assert drive.changes()[A] == 2, "what falls free is its own again"


def test_a_claim_that_waits_and_yields_is_forgotten() -> None:
    drive = Driver()
    drive.claim(A)
    drive.run(A, 4)
    drive.claim(B)
    drive.claims.give_way(B, now_s=drive.now_s)
    assert B not in drive.claims
    drive.end(A, 4)
    assert drive.changes() == {A: 4}
