"""How many of a node's slots each application may use: claims, what is granted of them, and fair shares.

Many coordinators share a node. Each *claims* slots; what it is *granted* it may use at once and alone. Free slots are
granted as they are claimed. Where claims exceed the slots, users get equal slot-seconds, and so do the applications
of each user. Nothing is killed for it: a grant that shrinks takes effect as attempts end, and a slot is granted to
another only then. An application that has *yielded* keeps no slot beyond what is under way once another wants it;
alone it keeps them all. What counts is use while somebody else wanted the slots, and whoever comes later is on a par
with the others from then on: to have worked when nobody else did is no fault, and to have been away no merit.

A grant is a lease: unused for `LEASE_S` it lapses. A claim that is not repeated is forgotten after `REMEMBERED_S`.

Invariants (`check`): no more slots are granted, or busy, than there are; and while somebody wants a slot none is free,
unless it is kept for attempts that are wider than what is free.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from attrs import define, field, frozen

from jcpeer.ids import AppId

QUANTUM_S = 2.0
"""A grant stands so long before fairness may take from it: a change costs a round trip in which the slot may idle."""
LEASE_S = 3.0
"""A grant that nothing was under way for lapses after so long: a round trip and the making of a few tasks fit in."""
LEASE_WANTED_S = 0.4
"""The same while another could use the slot: a round trip far away."""
REMEMBERED_S = 12.0
"""A claim that waits is repeated each 5 s while it is wanted; two may get lost."""
NAMES_MAX = 3
_RESCALE_AT = 2.0**40


@define(eq=False)
class Claim:
    """Of one application. Slots are `busy` with what runs, and `waiting` counts those of attempts that do not yet."""

    app: AppId
    user: str
    name: str
    since_s: float
    asked_s: float
    wanted: int = 0
    at_once: int = 1
    granted: int = 0
    granted_s: float = -math.inf
    busy: int = 0
    waiting: int = 0
    idle_since_s: float = 0.0
    most: int = 0
    """The most slots that it had use for since this was last looked at."""
    widths: Counter[int] = field(factory=Counter)
    """The slots of each attempt under way."""
    used: float = 0.0
    released: bool = False
    yielded: bool = False
    """Nothing more is to come for now."""

    @property
    def forgotten_s(self) -> float:
        """When nobody has wanted it for so long that it counts no longer, if nothing is under way."""
        return -math.inf if self.released else max(self.asked_s, self.idle_since_s) + REMEMBERED_S

    @property
    def under_way(self) -> int:
        return self.busy + self.waiting

    @property
    def taken(self) -> int:
        """Slots that nobody else can be given now: what is busy beyond the grant comes free by and by."""
        return max(self.granted, self.busy)

    @property
    def unit(self) -> int:
        """Slots are granted in these steps, or the widest attempt would wait for ever."""
        if len(self.widths) == 1:  # as it is for most
            ((width, count),) = self.widths.items()
            return width if count else self.at_once
        return max((width for width, count in self.widths.items() if count), default=self.at_once)


@frozen
class Change:
    """A grant is another number than before. `why` says why there are no more, `retry_s` when to claim again."""

    app: AppId
    why: str = ""
    retry_s: float | None = None


class Claims:
    """Tell it of every claim and attempt; it says what each application may start, and which grants changed."""

    def __init__(self, slots: int, *, half_life_s: float) -> None:
        """`half_life_s`: use that long ago counts half in the comparison of users."""
        self._slots = slots
        self._half_life_s = half_life_s
        self._claims: dict[AppId, Claim] = {}
        self._users: Counter[str] = Counter()
        """How many claims each user has."""
        self._used: dict[str, float] = {}
        """Slot-seconds by user; like those of claims weighted by `_weight`, so that old ones count less and less
        without being touched (Cormode et al., Forward Decay, 2009)."""
        self._landmark_s = 0.0
        self._now_s = 0.0
        self._shared_s = -math.inf
        self._closed: Change | None = None
        self._changes: dict[AppId, Change] = {}

    # --- claims

    def claim(self, app: AppId, *, user: str, name: str, slots: int, at_once: int, now_s: float) -> None:
        """Somebody could use so many slots, `at_once` of them for one attempt; 0 slots: as many as there are."""
        self._advance(now_s)
        claim = self._claims.get(app)
        if claim is None:
            claim = self._enter(Claim(app, user, name, since_s=now_s, asked_s=now_s, idle_since_s=now_s))
        claim.asked_s, claim.released, claim.yielded = now_s, False, False
        claim.at_once = max(1, min(at_once, self._slots))
        claim.wanted = max(claim.at_once, claim.under_way, min(slots or self._slots, self._slots))
        self._hand_out()

    def _enter(self, claim: Claim) -> Claim:
        """Whoever was away has saved nothing up: it begins with the use of the one who had least."""
        if self._users[claim.user]:
            claim.used = min(each.used for each in self._claims.values() if each.user == claim.user)
        elif self._claims:
            least = min(self._used.get(each.user, 0.0) for each in self._claims.values())
            self._used[claim.user] = max(self._used.get(claim.user, 0.0), least)
        self._claims[claim.app] = claim
        self._users[claim.user] += 1
        return claim

    def release(self, app: AppId, *, now_s: float) -> None:
        """It wants nothing any more; what is busy is free when it ends."""
        self._advance(now_s)
        claim = self._claims.get(app)
        if claim is not None:
            claim.wanted = claim.granted = 0
            claim.released = True
            self._changes.pop(app, None)
            self._forget(now_s)
            self._hand_out()

    def give_way(self, app: AppId, *, now_s: float) -> None:
        """It yields, until it claims again."""
        self._advance(now_s)
        claim = self._claims.get(app)
        if claim is not None:
            claim.yielded = True
            claim.wanted = claim.under_way
            if not claim.taken and not claim.under_way:
                claim.released = True
                self._forget(now_s)
            self._hand_out()

    def close(self, why: str, retry_s: float | None, *, now_s: float) -> None:
        """Grant nothing until `reopen`."""
        self._advance(now_s)
        self._closed = Change(AppId(""), why, retry_s)
        for claim in self._claims.values():
            self._shrink(claim, 0, why, retry_s)

    def reopen(self, *, now_s: float) -> None:
        self._advance(now_s)
        self._closed = None
        self._hand_out()

    # --- attempts

    def __contains__(self, app: AppId) -> bool:
        return app in self._claims

    def came(self, app: AppId, slots: int, *, now_s: float) -> None:
        """An attempt is to run. More than was claimed is a claim for more."""
        self._advance(now_s)
        claim = self._claims[app]
        claim.waiting += slots
        claim.widths[slots] += 1
        claim.most = max(claim.most, claim.under_way)
        claim.wanted = max(claim.wanted, min(claim.under_way, self._slots))
        if _wants_more(claim):
            self._hand_out()

    def left(self, app: AppId, slots: int, *, now_s: float) -> None:
        """An attempt that had not started will not."""
        self._advance(now_s)
        claim = self._claims[app]
        claim.waiting -= slots
        self._gone(claim, slots, now_s)

    def started(self, app: AppId, slots: int, *, now_s: float) -> None:
        self._advance(now_s)
        claim = self._claims[app]
        claim.waiting -= slots
        claim.busy += slots

    def put_back(self, app: AppId, slots: int, *, now_s: float) -> None:
        """An attempt that had started has not, after all."""
        self._advance(now_s)
        claim = self._claims[app]
        claim.busy -= slots
        claim.waiting += slots

    def ended(self, app: AppId, slots: int, *, now_s: float) -> None:
        self._advance(now_s)
        claim = self._claims[app]
        draining = claim.busy > claim.granted
        claim.busy -= slots
        self._gone(claim, slots, now_s)
        if draining or claim.yielded:
            self._hand_out()  # what it had beyond its grant, or keeps no longer

    def _gone(self, claim: Claim, slots: int, now_s: float) -> None:
        unit = claim.unit
        claim.widths[slots] -= 1
        if claim.yielded:
            claim.wanted = claim.under_way
        if claim.under_way == 0:
            claim.idle_since_s = now_s
            claim.widths.clear()
        if claim.unit != unit:
            self._hand_out()

    def may_start(self, app: AppId, slots: int) -> bool:
        """Whether its grant has room for this attempt."""
        claim = self._claims[app]
        return claim.busy + slots <= claim.granted

    def in_turn(self, apps: Collection[AppId]) -> Iterable[AppId]:
        """Those that have something to start, the one first that is furthest behind its share."""
        if len(apps) < 2:
            return list(apps)
        busy: Counter[str] = Counter()
        for claim in self._claims.values():
            busy[claim.user] += claim.busy
        ahead = QUANTUM_S * self._weight()

        def rank(app: AppId) -> tuple[float, float]:
            claim = self._claims[app]
            return self._used.get(claim.user, 0.0) + busy[claim.user] * ahead, claim.used + claim.busy * ahead

        return sorted((each for each in apps if each in self._claims), key=rank)

    # --- what is granted

    def granted(self, app: AppId) -> int:
        claim = self._claims.get(app)
        return claim.granted if claim else 0

    def room(self, app: AppId) -> int:
        """How many slots attempts of this application would be given at once, beyond those that are here: what is
        granted and not taken up, and what is free while nobody waits for it."""
        if self._closed:
            return 0
        own = self._claims.get(app)
        granted = own.granted - own.under_way if own else 0
        if any(_wants_more(each) for each in self._claims.values() if each.app != app):
            return granted
        kept = sum(each.under_way if each.yielded else each.taken for each in self._claims.values() if each.app != app)
        return self._slots - kept - (own.under_way if own else 0)

    def holders(self, app: AppId) -> str:
        """Why this application has no slots, in words."""
        if self._closed is not None:
            return self._closed.why
        others = [each for each in self._claims.values() if each.app != app and each.taken]
        names = [f"{each.name} of {each.user}" for each in others[:NAMES_MAX]]
        more = f" and {len(others) - len(names)} more" if len(others) > len(names) else ""
        return f"has no slot free: {', '.join(names)}{more} claimed them" if others else "keeps its slots for another"

    def take_changes(self) -> list[Change]:
        """The grants that changed since this was last asked, each once."""
        changes, self._changes = list(self._changes.values()), {}
        return changes

    def told(self, app: AppId) -> None:
        """The application is being told its grant, changed or not."""
        self._changes.pop(app, None)

    def tick(self, *, now_s: float) -> None:
        """Time passed: leases end, and fairness may take from some to give to others."""
        self._advance(now_s)
        for claim in self._claims.values():
            if claim.granted and claim.under_way == 0 and now_s >= claim.idle_since_s + self._lease_s():
                claim.wanted = 0
                self._shrink(claim, 0, "its slots were not used for a while, so they are free for all", 0.0)
        self._forget(now_s)
        if self._contended() and now_s >= self._share_due_s():
            self._shared_s = now_s
            self._share(now_s)
        self._hand_out()

    def wake_s(self) -> float:
        """When `tick` is due at the latest."""
        times = []
        for claim in self._claims.values():
            if claim.granted and claim.under_way == 0:
                times.append(claim.idle_since_s + self._lease_s())
            elif not claim.granted and claim.under_way == 0:
                times.append(claim.forgotten_s)
        if self._contended():
            times.append(self._share_due_s())
        return min(times, default=math.inf)

    def _share_due_s(self) -> float:
        """When something may be taken from somebody."""
        oldest_s = min((each.granted_s for each in self._claims.values() if each.granted), default=math.inf)
        return max(self._shared_s, oldest_s) + QUANTUM_S

    def _lease_s(self) -> float:
        return LEASE_WANTED_S if self._contended() else LEASE_S

    def _contended(self) -> bool:
        return self._closed is None and len(self._claims) > 1 and any(map(_wants_more, self._claims.values()))

    def _share(self, now_s: float) -> None:
        for claim in self._claims.values():
            ripe = now_s >= claim.granted_s + QUANTUM_S
            if ripe and claim.granted > claim.most > 0:
                claim.wanted = claim.most  # others have use for the rest
            claim.most = claim.under_way
        allotted = self._allot()
        names = [f"{each.name} of {each.user}" for each in self._claims.values() if allotted[each.app]]
        why = f"shares its slots: {', '.join(names[:NAMES_MAX])}{' and others' if len(names) > NAMES_MAX else ''}"
        for claim in self._claims.values():
            if now_s >= claim.granted_s + QUANTUM_S:
                self._shrink(claim, allotted[claim.app], why)

    def _hand_out(self) -> None:
        """Grant what is free, as it is allotted."""
        if self._closed is not None or not any(map(_wants_more, self._claims.values())):
            return
        for claim in self._claims.values():
            if claim.yielded:
                self._shrink(claim, claim.under_way, "its slots were not needed, so others have them", 0.0)
        free = self._slots - sum(each.taken for each in self._claims.values())
        if free <= 0:
            return
        for app, allotted in self._allot().items():
            claim = self._claims[app]
            more = allotted - claim.granted
            room = free + claim.taken - claim.granted  # what is busy beyond its grant is its own already
            if more > room:
                more = room // claim.unit * claim.unit
            if more > 0:
                before = claim.taken
                if not claim.granted and not claim.under_way:
                    claim.idle_since_s = self._now_s
                claim.granted += more
                claim.granted_s = self._now_s
                self._changes[app] = Change(app)
                free -= claim.taken - before

    def _allot(self) -> dict[AppId, int]:
        """What each should have at this moment, if all slots were free: one unit after the other goes to the user, and
        of that user to the application, that is furthest behind; those first that get it first."""
        allotted: dict[AppId, int] = {}
        by_user: Counter[str] = Counter()
        ahead = QUANTUM_S * self._weight()
        left = self._slots

        def rank(claim: Claim) -> tuple[float, float, float, AppId]:
            user_s = self._used.get(claim.user, 0.0) + by_user[claim.user] * ahead
            return user_s, claim.used + allotted.get(claim.app, 0) * ahead, claim.since_s, claim.app

        waiting = list(self._claims.values())
        while left and self._closed is None:
            waiting = [
                each
                for each in waiting
                if each.unit <= left and allotted.get(each.app, 0) + each.unit <= max(each.wanted, _least(each))
            ]
            if not waiting:
                break
            first = min(waiting, key=rank)
            allotted[first.app] = allotted.get(first.app, 0) + first.unit
            by_user[first.user] += first.unit
            left -= first.unit
        return {**allotted, **{app: 0 for app in self._claims if app not in allotted}}

    def _shrink(self, claim: Claim, slots: int, why: str, retry_s: float | None = None) -> None:
        if slots < claim.granted:
            claim.granted = slots
            self._changes[claim.app] = Change(claim.app, why, retry_s)

    def _forget(self, now_s: float) -> None:
        for claim in list(self._claims.values()):
            if not claim.taken and not claim.under_way and now_s >= claim.forgotten_s:
                del self._claims[claim.app]
                self._users[claim.user] -= 1
                if not self._users[claim.user]:
                    del self._users[claim.user]

    # --- use

    def _advance(self, now_s: float) -> None:
        """Charge what ran since the last event."""
        passed_s = now_s - self._now_s
        if passed_s <= 0:
            return
        weight = self._weight()
        for claim in self._claims.values():
            if claim.busy:
                charge = claim.busy * passed_s * weight
                claim.used += charge
                if len(self._users) > 1:
                    self._used[claim.user] = self._used.get(claim.user, 0.0) + charge
        self._now_s = now_s
        if weight > _RESCALE_AT:
            self._landmark_s = now_s
            self._used = {user: used / weight for user, used in self._used.items() if used / weight > 1e-9}
            for claim in self._claims.values():
                claim.used /= weight

    def _weight(self) -> float:
        return float(2.0 ** ((self._now_s - self._landmark_s) / self._half_life_s))

    def __iter__(self) -> Iterator[Claim]:
        return iter(self._claims.values())

    def check(self) -> None:
        """Assert what holds after each event."""
        taken = sum(each.taken for each in self._claims.values())
        assert taken <= self._slots, (taken, self._slots)
        for claim in self._claims.values():
            assert min(claim.busy, claim.waiting) >= 0
            assert sum(width * count for width, count in claim.widths.items()) == claim.under_way
            assert self._closed is None or claim.granted == 0
        if self._closed is None and all(each.unit == 1 for each in self._claims.values()):
            assert taken == self._slots or not any(map(_wants_more, self._claims.values()))


def _least(claim: Claim) -> int:
    """A claim that wants anything wants one unit."""
    return claim.unit if claim.wanted else 0


def _wants_more(claim: Claim) -> bool:
    return (claim.granted // claim.unit + 1) * claim.unit <= max(claim.wanted, _least(claim))
