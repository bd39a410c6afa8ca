"""Machines on networks of their own, with a router between them: no multicast, firewalls, addresses that lead nowhere.

`pytest -s` shows the times that were taken.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.grids.namespaces import Machine, RunningNode, Wan, open_wan, within
from tests.grids.test_first_grid import hand_over, naps, report, run, shares

pytestmark = pytest.mark.root

MET_S = 5.0
"""From the line that says that the last one listens."""
FOUND_OUT_S = 20.0
"""Two others in turn must fail to connect, 4 s each where the firewall drops, and then tell."""
PARTED_S = 10.0
"""Of one that nobody here is connected to, the death is a guess, which may be refuted for a while."""
HEALED_S = 10.0
TRIES_MAX = 60
"""Applications until one has its home on a given one of three nodes: it fails once in 10^10."""

HEARS = """
import socket, struct, sys
group, own = "239.78.0.1", sys.argv[1]
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("", 4078))
listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton(own))
print("ready", flush=True)
heard = []
while not heard or heard[-1] != "end":
    heard.append(listener.recv(100).decode())
print(*heard)
"""
SAYS = """
import socket, sys
own, others = sys.argv[1], sys.argv[2:]
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 32)
for _ in range(5):
    sender.sendto(b"multicast", ("239.78.0.1", 4078))
for other in (own, *others):
    sender.sendto(b"end", (other, 4078))
"""


@pytest.fixture
def wan() -> Iterator[Wan]:
    with open_wan() as wan:
        yield wan


def one_grid(first: Machine, *others: Machine) -> None:
    """Let in by a token that names no address, since nothing runs yet."""
    first.run("grid", "create", "wide")
    for machine in others:
        machine.run("grid", "join", first.run("grid", "invite").line)


def start_all(first: Machine, *others: Machine, options: tuple[str, ...] = ("--slots", "2")) -> list[RunningNode]:
    """Nodes that are told of the first and of nothing else."""
    nodes = [first.start_node(*options)]
    nodes += [each.launch_node(*options, "--bootstrap", nodes[0].dialled_at) for each in others]
    for node in nodes[1:]:
        node.listening()
    return nodes


def met(*nodes: RunningNode, bound_s: float = MET_S, since_s: float | None = None, what: str = "all have met") -> None:
    since_s = since_s if since_s is not None else max(each.listening_since_s for each in nodes)
    report(what, within(bound_s, lambda: each_sees_all(nodes), what, since_s=since_s))


def each_sees_all(nodes: tuple[RunningNode, ...]) -> bool:
    return all(node.sees(*(each for each in nodes if each is not node)) for node in nodes)


def in_parts(*parts: list[RunningNode]) -> bool:
    return all(each_sees_all(tuple(part)) for part in parts)


def out_of_reach(node: RunningNode) -> set[str]:
    """The nodes that cannot be dialled, as this one knows."""
    return {name for name, seen in node.nodes().items() if not seen.record.dialable}


def unconnected(node: RunningNode) -> set[str]:
    """The nodes that it knows from others only."""
    return {name for name, seen in node.nodes().items() if not seen.connected}


def test_between_sites_single_packets_pass_and_multicast_does_not(wan: Wan) -> None:
    a, b, c = (wan.site(name) for name in ("alpha", "beta", "gamma"))
    listeners = [each.python(HEARS, each.address) for each in (a, b, c)]
    for each in listeners:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    a.python(SAYS, a.address, b.address, c.address).wait(10)
    heard = [each.communicate(timeout=10)[0].split() for each in listeners]
    assert heard == [["multicast"] * 5 + ["end"], ["end"], ["end"]]


def at_home_on(home: RunningNode, machine: Machine) -> str:
    """An application, handed over at a machine, whose key is closest to that node."""
    for number in range(1, TRIES_MAX):
        app = hand_over(machine, naps(6, 0.3), "--placement", "rdv")
        status = machine.run("status", app, "--json").data
        if status["coordinator"]["id"] == home.id:
            print(f"\n    application number {number} has its home on {home.machine.name}", end="")
            return app
        machine.run("wait", app)
    raise AssertionError("keys are not spread over the nodes")


def test_three_sites_are_one_grid_that_outlives_the_node_by_which_they_met(wan: Wan) -> None:
    a, b, c = (wan.site(name) for name in ("alpha", "beta", "gamma"))
    one_grid(a, b, c)
    nodes = start_all(a, b, c)
    node_a, node_b, node_c = nodes
    met(*nodes)
    assert set(shares(run(a, naps(12, 0.3)))) == {"alpha", "beta", "gamma"}

    app = at_home_on(node_c, a)
    a.run("wait", app)
    assert a.run("result", app, "--output", "results").status == 0
    hosts = {path.read_text().strip() for path in (a.directory / "results").iterdir()}
    assert hosts == {"alpha", "beta", "gamma"}, "fetched at the first site, made on all"
    assert set(shares(a.run("status", app, "--json").data)) == hosts

    killed_s = time.monotonic()
    node_a.kill()
    met(node_b, node_c, since_s=killed_s, what="the node by which they met is gone")
    assert set(shares(run(b, naps(8, 0.3)))) == {"beta", "gamma"}
    assert {line.split()[0].rstrip("*") for line in b.run("nodes").out.splitlines()[1:]} == {"beta", "gamma"}
    assert b.run("status", app, "--json").data["status"] == "ok", "what lives on the third site is still known"

    node_c.stop()
    node_c = c.start_node("--bootstrap", node_a.dialled_at)
    met(node_b, node_c, what="found by the address book after a restart, though its bootstrap is dead")
    assert set(shares(run(c, naps(8, 0.3)))) == {"beta", "gamma"}


RELAYED = """
    [application]
    name = "relayed"
    [task.make]
    outputs = ["data"]
    command = "head -c 3000000 /dev/urandom > data"
    labels = {site = "shy"}
    [task.use]
    inputs = ["data"]
    outputs = ["size"]
    command = "wc -c < data > size; hostname >> size"
    labels = {site = "coy"}
    """


def test_nodes_behind_firewalls_work_over_the_connections_that_they_open(wan: Wan) -> None:
    a, b = wan.site("alpha"), wan.site("beta")
    shy, coy = wan.site("shy", firewall="drops"), wan.site("coy", firewall="rejects")
    one_grid(a, b, shy, coy)
    node_a, node_b = start_all(a, b)
    node_shy, node_coy = (
        each.launch_node("--slots", "2", "--label", f"site={each.name}", "--bootstrap", node_a.dialled_at)
        for each in (shy, coy)
    )
    nodes = (node_a, node_b, node_shy.listening(), node_coy.listening())
    met(*nodes)
    knows = "all know who cannot be dialled"
    since_s = node_coy.listening_since_s
    took_s = within(
        FOUND_OUT_S, lambda: all(out_of_reach(each) == {"shy", "coy"} for each in nodes), knows, since_s=since_s
    )
    report(knows, took_s)
    shown = {line.split()[0]: "cannot be dialled" in line for line in a.run("nodes").out.splitlines()[1:]}
    assert shown == {"alpha*": False, "beta": False, "shy": True, "coy": True}
    assert unconnected(node_shy) == {"coy"}

    assert set(shares(run(shy, naps(16, 0.3)))) == {"alpha", "beta", "shy", "coy"}, "submitted behind a firewall"
    for machine, placement in ((shy, "rdv"), (shy, "local"), (a, "rdv")):
        app = hand_over(machine, naps(1, 0), "--placement", placement)
        named = {each["name"] for each in machine.run("status", app, "--json").data["replica_set"]}
        assert named == {"alpha", "beta"}

    before_s = time.monotonic()
    end = run(a, RELAYED)
    report("data from one firewalled node to another, by way of the coordinator", time.monotonic() - before_s)
    assert (shares(end), end["attempts"]) == ({"shy": 1, "coy": 1}, 2)
    a.run("result", "relayed", "--output", "results")
    assert (a.directory / "results" / "size").read_text().split() == ["3000000", "coy"]

    node_a.kill()
    met(node_b, node_shy, node_coy, since_s=time.monotonic(), what="they go on without the node by which they met")
    assert set(shares(run(b, naps(12, 0.3)))) == {"beta", "shy", "coy"}


def test_two_homes_and_a_server_are_one_grid_and_again_after_ten_seconds_without_a_router(wan: Wan) -> None:
    server, home, other_home = wan.site("server"), wan.home(), wan.home()
    desk, sofa, far = home.machine("desk"), home.machine("sofa"), other_home.machine("far")
    one_grid(server, desk, sofa, far)
    node_server = server.start_node("--slots", "1", "--listen", "0.0.0.0:4001")
    options = ("--slots", "2", "--bootstrap", f"{server.address}:4001")
    at_home = [each.launch_node(*options, "--label", f"at={each.name}") for each in (desk, sofa, far)]
    nodes = (node_server, *(each.listening() for each in at_home))
    met(*nodes)
    since_s, knows = nodes[-1].listening_since_s, "all know that the server alone can be dialled"
    homely = {"desk", "sofa", "far"}
    report(
        knows, within(FOUND_OUT_S, lambda: all(out_of_reach(each) == homely for each in nodes), knows, since_s=since_s)
    )
    assert [unconnected(each) for each in nodes] == [set(), {"far"}, {"far"}, {"desk", "sofa"}]

    for maker, user in (("desk", "sofa"), ("desk", "far")):
        application = RELAYED.replace('site = "shy"', f'at = "{maker}"').replace('site = "coy"', f'at = "{user}"')
        before_s = time.monotonic()
        assert shares(run(desk, application)) == {maker: 1, user: 1}
        report(f"3 MB from {maker} to {user}", time.monotonic() - before_s)

    app = hand_over(sofa, naps(44, 1))
    within(5, lambda: all(each.nodes()[each.machine.name].record.slots_used for each in nodes), "all work for it")
    cut_s = time.monotonic()
    wan.set_router(on=False)
    took_s = within(PARTED_S, lambda: in_parts([nodes[0]], [nodes[1], nodes[2]], [nodes[3]]), "parts", since_s=cut_s)
    report("without a router each home is by itself", took_s)
    within(11, lambda: time.monotonic() - cut_s >= 10, "ten seconds are over", since_s=cut_s)
    wan.set_router(on=True)
    met(*nodes, bound_s=HEALED_S, since_s=time.monotonic(), what="one grid again, after ten seconds")
    sofa.run("wait", app)
    done = shares(sofa.run("status", app, "--json").data)
    assert set(done) == {"server", *homely}
    assert sum(done.values()) == 44


def test_addresses_that_hold_only_within_a_site_do_not_keep_nodes_apart(wan: Wan) -> None:
    a, b = wan.site("alpha", private="10.99.0.1"), wan.site("beta", private="10.99.0.1")
    c, d = wan.site("gamma", private="10.99.0.2"), wan.site("delta", private="10.99.1.1")
    one_grid(a, b, c, d)
    nodes = start_all(a, b, c, d)
    for node, private in zip(nodes, ("10.99.0.1", "10.99.0.1", "10.99.0.2", "10.99.1.1"), strict=True):
        listens = node.ready["listens"]
        assert any(private in each for each in listens)
        assert any(node.machine.address in each for each in listens)
    met(*nodes)
    what = "all are connected, though each names an address first that leads nowhere or elsewhere"
    since_s = max(each.listening_since_s for each in nodes)
    report(what, within(MET_S, lambda: not any(unconnected(each) for each in nodes), what, since_s=since_s))
    assert set(shares(run(d, naps(16, 0.3)))) == {"alpha", "beta", "gamma", "delta"}
