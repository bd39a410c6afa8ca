"""Two machines become one grid, as the README says, and stay one through what happens to cables and people.

Each machine is a network namespace; commands are typed as a person would. `pytest -s` shows the times that were taken.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.grids.namespaces import Lan, Machine, RunningNode, open_lan, within

pytestmark = pytest.mark.root

SEEN_S = 2.5
"""From the line that says that it listens."""
LEFT_S = 1.0
LOST_S = 5.0


def naps(count: int, seconds: float, *, needs: str = "") -> str:
    """An application that says where each of its tasks slept."""
    return f"""
        [application]
        name = "naps"
        [task.nap]
        matrix.n = {{range = [0, {count}]}}
        outputs = ["host-{{n}}"]
        command = "sleep {seconds}; hostname > host-{{n}}"
        {needs}
        """


@pytest.fixture
def lan() -> Iterator[Lan]:
    with open_lan() as lan:
        yield lan


def report(what: str, seconds: float) -> None:
    print(f"\n    {what}: {seconds:.2f} s", end="")


def start_both(a: Machine, b: Machine, *options: str) -> tuple[RunningNode, RunningNode]:
    node_a, node_b = a.launch_node("--slots", "2", *options), b.launch_node("--slots", "2", *options)
    return node_a.listening(), node_b.listening()


def join(a: Machine, b: Machine, *invite: str) -> None:
    b.run("grid", "join", a.run("grid", "invite", *invite).line)


def acquainted(a: RunningNode, b: RunningNode, *, bound_s: float = SEEN_S, what: str) -> None:
    since_s = max(a.listening_since_s, b.listening_since_s)
    report(what, within(bound_s, lambda: a.sees(b) and b.sees(a), what, since_s=since_s))


def shares(end: Any) -> dict[str, int]:
    """How many tasks each node finished, when all went well."""
    assert end["status"] == "ok", end
    return {each["node"]["name"]: each["finished"] for each in end["shares"]}


def run(machine: Machine, application: str) -> Any:
    machine.write("naps.toml", application)
    return machine.run("run", "naps.toml", "--no-output", "--json").data


def hand_over(machine: Machine, application: str, *options: str) -> str:
    """The application's id."""
    machine.write("naps.toml", application)
    return machine.run("run", "naps.toml", "--detach", *options).line


def test_two_machines_become_one_grid_by_one_pasted_token(lan: Lan) -> None:
    a, b = lan.machine("alpha"), lan.machine("beta")
    node_a, node_b = start_both(a, b)
    for node in (node_a, node_b):
        took_s = within(SEEN_S, node.notices, "the other grid is named", since_s=node_b.listening_since_s)
        report(f"{node.machine.name} names the other grid", took_s)
        [notice] = node.notices()
        assert "another grid is on this network" in notice
        assert "`jcpeer grid join TOKEN` here" in notice
        assert notice in node.machine.run("nodes").err
    invited = a.run("grid", "invite")
    joined = b.run("grid", "join", invited.line)
    assert "1 running node moved to it: beta" in joined.err
    within(5, lambda: len(node_b.out.so_far) == 2, "the node listens in the other grid")
    node_b.listening()
    acquainted(node_a, node_b, what="both are in the grid")
    assert node_b.ready["fingerprint"] == node_a.ready["fingerprint"]
    within(SEEN_S, lambda: not node_a.notices() and not node_b.notices(), "no other grid is there any more")

    for machine in (a, b):
        done = shares(run(machine, naps(16, 0.2)))
        assert set(done) == {"alpha", "beta"}, done
        assert sum(done.values()) == 16
        shown = machine.run("nodes").out.splitlines()
        assert {line.split()[0].rstrip("*") for line in shown[1:]} == set(done)

    left_s = time.monotonic()
    node_b.stop()
    report("gone after a clean stop", within(LEFT_S + 5, lambda: node_a.sees(), "it is gone", since_s=left_s))
    node_b = b.start_node("--slots", "2")
    acquainted(node_a, node_b, what="seen again after a restart, on another port")


def test_where_multicast_is_blocked_the_token_says_where_to_begin(lan: Lan) -> None:
    a, b = lan.machine("alpha", multicast=False), lan.machine("beta", multicast=False)
    node_a = a.start_node()
    join(a, b)
    node_b = b.start_node()
    acquainted(node_a, node_b, what="both are in the grid, by the token's address")
    assert set(shares(run(b, naps(8, 0.2)))) == {"alpha", "beta"}


def test_where_multicast_is_blocked_a_named_address_leads_there_and_is_remembered(lan: Lan) -> None:
    a, b = lan.machine("alpha", multicast=False), lan.machine("beta", multicast=False)
    a.run("grid", "create", "lab")
    join(a, b)
    node_a = a.start_node()
    node_b = b.start_node("--bootstrap", node_a.dialled_at)
    acquainted(node_a, node_b, what="both are in the grid, by --bootstrap")
    node_b.stop()
    node_b = b.start_node()
    acquainted(node_a, node_b, what="seen again after a restart, by the address book")


def test_a_node_on_which_an_application_runs_stays_until_it_has_ended(lan: Lan) -> None:
    a, b = lan.machine("alpha"), lan.machine("beta")
    node_a, node_b = start_both(a, b)
    app = hand_over(b, naps(2, 60))
    token = a.run("grid", "invite").line
    refused = b.run("grid", "join", token)
    assert "Node beta stays where it is: this node coordinates naps; wait for the end, or cancel" in refused.err
    assert node_b.sees()
    b.run("cancel", app)
    within(5, lambda: b.try_to("wait", app).status == 3, "the application is cancelled")
    assert "1 running node moved to it: beta" in b.run("grid", "join", token).err
    acquainted(node_a, node_b, what="both are in the grid", bound_s=5)


def test_tasks_of_another_user_run_only_where_the_grid_is_trusted(lan: Lan) -> None:
    a, b = lan.machine("alpha"), lan.machine("beta", user="bob")
    node_a = a.start_node("--slots", "2")
    join(a, b, "--user", "bob", "--expires", "7d")
    node_b = b.start_node("--label", "far=1")
    acquainted(node_a, node_b, what="a node of another user is seen")
    assert {name: seen.record.user for name, seen in node_a.nodes().items()} == {"alpha": "ada", "beta": "bob"}
    assert set(shares(run(a, naps(4, 0.2)))) == {"alpha"}

    app = hand_over(a, naps(2, 0.2, needs='labels.far = "1"'), "--placement", "local")
    refusal = "beta: runs tasks of its own user only (bob); start it with --trust-grid"
    within(5, lambda: refusal in a.run("why", app, "nap-0").out, "`why` names the refusal")
    node_b.stop()
    node_b = b.start_node("--label", "far=1", "--trust-grid")
    assert a.run("wait", app).status == 0
    assert shares(a.run("status", app, "--json").data) == {"beta": 2}


def test_a_cable_that_is_pulled_for_ten_seconds_costs_time_and_nothing_else(lan: Lan) -> None:
    a, b = lan.machine("alpha"), lan.machine("beta")
    node_a = a.start_node("--slots", "2")
    join(a, b)
    node_b = b.start_node("--slots", "2")
    acquainted(node_a, node_b, what="both are in the grid")
    app = hand_over(a, naps(48, 1), "--placement", "local")
    within(5, lambda: node_b.nodes()["beta"].record.slots_used == 2, "both work for it")

    b.set_cable(plugged=False)
    pulled_s = time.monotonic()
    report("a machine out of reach is gone", within(LOST_S, lambda: node_a.sees(), "it is gone", since_s=pulled_s))
    within(11, lambda: time.monotonic() - pulled_s >= 10, "ten seconds are over", since_s=pulled_s)
    b.set_cable(plugged=True)
    plugged_s = time.monotonic()
    took_s = within(10, lambda: node_a.sees(node_b) and node_b.sees(node_a), "they see each other", since_s=plugged_s)
    report("found again without help", took_s)
    within(5, lambda: node_b.nodes()["beta"].record.slots_used == 2, "the other works for it again")

    assert a.run("wait", app).status == 0
    end = a.run("status", app, "--json").data
    assert set(shares(end)) == {"alpha", "beta"}
    assert sum(shares(end).values()) == 48

    killed_s = time.monotonic()
    node_b.kill()
    report("gone after kill -9", within(LOST_S, lambda: node_a.sees(), "it is gone", since_s=killed_s))
    node_b = b.start_node()
    acquainted(node_a, node_b, what="seen again after kill -9 and a restart")
    b.set_cable(plugged=False)
    off_s = time.monotonic()
    report("gone after its power went", within(LOST_S, lambda: node_a.sees(), "it is gone", since_s=off_s))


def test_three_nodes_on_a_machine_without_any_network_find_each_other(lan: Lan) -> None:
    lonely = lan.machine("lonely", cable=False)
    nodes = [lonely.launch_node("--name", name, "--no-mdns") for name in ("one", "two", "three")]
    for node in nodes:
        node.listening()
    since_s = nodes[-1].listening_since_s
    took_s = within(
        SEEN_S, lambda: all(node.nodes().keys() == {"one", "two", "three"} for node in nodes), "three", since_s=since_s
    )
    report("three nodes on loopback see each other", took_s)
