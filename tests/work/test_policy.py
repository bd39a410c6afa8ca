"""What a node's owner allows: whose work, which, and when."""

from __future__ import annotations

import pytest

from jcpeer.application.manifest import Header
from jcpeer.config import Config
from jcpeer.coordinator.matching import refusal
from jcpeer.wire.messages import Confirm, Decline, GivenBack, Policy
from jcpeer.work import events as work
from jcpeer.work.policy import HouseRules
from tests.work.test_participant import APP, FIRST, OTHER, Driver, assigned, called, messages, name, order, ran, started

CLOSED = Policy(closed="takes nothing new until Mon 18:00 (its hours: 18:00-08:00)")


def header(user: str = "ann", **labels: str) -> Header:
    return Header("app", 0.0, b"", user=user, labels=labels)


@pytest.mark.parametrize(
    ("policy", "refused", "taken", "words"),
    [
        (Policy(refuse_users=("ann",)), header(), header("bob"), "refuses user ann"),
        (Policy(only_users=("bob", "eve")), header(), header("eve"), "takes work of bob, eve only"),
        (
            Policy(refuse_labels={"queue": "long"}),
            header(queue="long"),
            header(queue="short"),
            "refuses applications with the label queue=long",
        ),
        (
            Policy(refuse_labels={"game": ""}),
            header(game="chess"),
            header(),
            "refuses applications with the label game=chess",
        ),
        (
            Policy(only_labels={"project": ""}),
            header(),
            header(project="sky"),
            "takes applications with the label project only",
        ),
    ],
)
def test_owners_choose_by_user_and_by_label(policy: Policy, refused: Header, taken: Header, words: str) -> None:
    assert refusal(policy, refused) == words
    assert refusal(policy, taken) is None


def test_outside_of_its_hours_a_node_says_until_when() -> None:
    rules = HouseRules(Config(hours="Mon-Fri 18:00-08:00"))
    monday_s = 4 * 24 * 3600.0
    closed = rules.at(monday_s + 12 * 3600)
    assert closed.policy.closed == "takes nothing new until Mon 18:00 (its hours: Mon-Fri 18:00-08:00)"
    assert closed.opens_in_s == 6 * 3600
    opened = rules.at(monday_s + 19 * 3600)
    assert (opened.policy, opened.opens_in_s, opened.changes_in_s) == (Policy(), None, 13 * 3600)


def test_a_node_without_hours_is_always_open() -> None:
    assert HouseRules(Config()).at(0.0).policy == Policy()


def test_a_participant_declines_what_its_owner_refuses() -> None:
    drive = Driver()
    drive(work.PolicyChanged(Policy(refuse_users=("user",))))
    assert messages(drive.settle(called())) == [Decline(APP, FIRST, "refuses user user", idle=True)]


def test_at_closing_time_what_runs_goes_on_and_nothing_new_is_taken() -> None:
    drive = Driver(slots=1)
    drive.settle(called())
    drive.settle(assigned(order("running"), order("queued")))
    under_way = (name("running"), name("queued"))
    assert messages(drive.settle(work.PolicyChanged(CLOSED, 3600.0))) == [
        Confirm(APP, FIRST, 0, under_way, CLOSED.closed, 3600.0)
    ]
    assert messages(drive.settle(assigned(order("late")))) == [
        GivenBack(APP, (name("late"),), CLOSED.closed, unstarted=True)
    ]
    assert messages(drive.settle(called(OTHER))) == [Decline(OTHER, FIRST, CLOSED.closed, 3600.0, idle=True)]
    assert started(drive.settle(ran("running"))) == []
    effects = drive.settle(work.PolicyChanged(Policy()))
    assert Confirm(APP, FIRST, 1, (name("queued"), name("running"))) in messages(effects)
    assert started(effects) == ["queued"]


def test_a_coordinator_that_comes_back_outside_of_hours_hears_what_still_runs() -> None:
    drive = Driver(slots=1)
    drive.settle(called())
    drive.settle(assigned(order("running")))
    drive.settle(work.PolicyChanged(CLOSED, 3600.0))
    (confirm,) = messages(drive.settle(called()))
    assert confirm == Confirm(APP, FIRST, 0, (name("running"),), CLOSED.closed)
