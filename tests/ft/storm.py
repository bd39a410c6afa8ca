"""Random faults upon a little world, then quiet: whatever was promised is there, and it goes on by itself."""

from __future__ import annotations

from collections import Counter

from jcpeer.application.manifest import Takeover
from tests.ft.little_world import Node, World

Shape = tuple[int, int, int, Takeover]
SHAPES: tuple[Shape, ...] = (
    (3, 3, 3, "default"),
    (4, 3, 3, "default"),
    (5, 5, 5, "default"),
    (5, 3, 3, "default"),
    (6, 3, 3, "quorum"),
    (5, 1, 3, "default"),
    (4, 2, 3, "default"),
    (7, 5, 5, "default"),
    (4, 3, 3, "available"),
)
"""Nodes, seats at first, replicas wanted, and what a takeover needs."""
FAULTS = ("crash", "crash", "fall", "lose", "power", "pause", "cut", "part", "heal", "slow", "retire", "restart")
STORM_S = 25.0
COORDINATOR_S = 8.0
"""So long after the last fault there is one coordinator, and all that was proposed is committed."""
WHOLE_S = 60.0
"""And so long after it, the set is whole."""


LATER_SEATS_BEGIN = 5
"""One seed of so many begins with the second seat."""


class Storm:
    """One seed, from the first fault to the quiet after the last."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        nodes, seats, replicas, takeover = SHAPES[seed % len(SHAPES)]
        self.world = World(seed=seed, nodes=nodes, seats=seats, replicas=replicas, takeover=takeover)
        self._random = self.world.random
        self._rough = self._random.choice((0.3, 1.0, 3.0))
        """Seconds between faults, about."""
        self._over = False

    def run(self) -> Counter[str]:
        world = self.world
        later = list(world.nodes)[1]
        if self.seed % LATER_SEATS_BEGIN == 0 and world.placed.first_set.quorum:
            world.take_seat(later)
            world.after(self._random.uniform(0.0, 3.0), world.open)
        else:
            world.open()
        self._propose()
        self._offer()
        assert world.run(5.0, lambda: bool(world.acknowledged)), "nothing was ever accepted"
        world.after(self._random.uniform(0.0, 2.0), self._strike)
        world.run(STORM_S)
        self._over = True
        world.heal()
        for node in world.nodes.values():
            node.disk_delay_s = 0.001
            world.restart(node.id)
        world.run(LONGEST_PAUSE_S)  # whoever is held up goes on
        for node in world.nodes.values():
            world.restart(node.id)
        assert world.run(COORDINATOR_S, self._calm), f"seed {self.seed}: not calm: {self._state()}"
        assert world.run(WHOLE_S, self._whole), f"seed {self.seed}: not whole: {self._state()}"
        return world.seen

    # --- what happens all the time

    def _propose(self) -> None:
        if not self._over:
            self.world.propose(self._random.choice((0, 1, 1, 2, 20)))
        self.world.retry()
        self.world.after(self._random.uniform(0.05, 0.6), self._propose)

    def _offer(self) -> None:
        self.world.offer_newcomers()
        self.world.after(2.0, self._offer)

    # --- faults

    def _strike(self) -> None:
        if self._over:
            return
        for _ in range(self._random.choice((1, 1, 1, 2))):
            self._one_fault()
        self.world.after(self._random.expovariate(1 / self._rough), self._strike)

    def _one_fault(self) -> None:
        world, rand = self.world, self._random
        node = self._victim()
        match rand.choice(FAULTS):
            case "crash":
                world.crash(node.id)
                self._restart_later(node)
            case "fall" if world.may_harm(node.id):
                world.crash(node.id, disk="fallen")
                self._restart_later(node)
            case "lose" if world.may_harm(node.id):
                world.crash(node.id, disk="lost")
                self._restart_later(node)
            case "power" if rand.random() < 0.5 and world.may_cut_power():
                world.cut_power()
                for each in world.nodes.values():
                    self._restart_later(each)
            case "pause":
                world.pause(node.id, rand.choice((0.2, 1.0, rand.uniform(2.0, LONGEST_PAUSE_S))))
            case "cut":
                other = rand.choice([each for each in world.nodes.values() if each is not node])
                world.cut(node.id, other.id, both=rand.random() < 0.6)
            case "part":
                names = list(world.nodes)
                rand.shuffle(names)
                at = rand.randrange(1, len(names))
                for a in names[:at]:
                    for b in names[at:]:
                        world.cut(a, b)
            case "heal":
                world.heal()
            case "slow":
                node.disk_delay_s = rand.choice((0.001, 0.02, 0.3))
            case "retire":
                world.retire(node.id)
                world.after(1.6 + rand.uniform(0.0, 5.0), lambda: world.restart(node.id))
            case "restart":
                for each in world.nodes.values():
                    world.restart(each.id)

    def _victim(self) -> Node:
        """Often whoever coordinates, or is about to."""
        nodes = list(self.world.nodes.values())
        busy = [
            each for each in nodes if each.replica is not None and each.replica.role in ("coordinator", "candidate")
        ]
        return self._random.choice(busy if busy and self._random.random() < 0.5 else nodes)

    def _restart_later(self, node: Node) -> None:
        after_s = self._random.choice((0.1, 1.0, self._random.uniform(0.0, 20.0)))
        self.world.after(after_s, lambda: self.world.restart(node.id))

    # --- the quiet after it

    def _calm(self) -> bool:
        world = self.world
        return len(world.coordinators()) == 1 and len(world.acknowledged) == len(world.wanted)

    def _whole(self) -> bool:
        if not self._calm():
            return False
        world = self.world
        (node,) = world.coordinators()
        replica = node.replica
        assert replica is not None
        seats = replica.replica_set.seats
        wanted = min(world.placed.header.replicas, len(world.nodes))
        return (
            len(seats) == wanted
            and not replica.missing
            and world.settled_by(node) == replica.replica_set
            and all(self._follows(world.nodes[seat.node], seat.journal, node) for seat in seats)
        )

    def _follows(self, node: Node, journal: str, coordinator: Node) -> bool:
        replica = node.replica
        same = node is coordinator or (replica is not None and replica.role == "follower")
        return same and replica is not None and journal == node.disk.journal and replica.committed == len(node.entries)

    def _state(self) -> str:
        return "; ".join(
            f"{each.id} {each.replica.role if each.replica else None} {each.replica.epoch if each.replica else None}"
            for each in self.world.nodes.values()
        )


LONGEST_PAUSE_S = 6.0
