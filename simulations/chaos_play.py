"""One plot, played: a grid of whole nodes, clients who ask and look on, faults in their time, and what is left in the
end held against what was promised."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path

import trio
from attrs import frozen

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import Header, application_key
from jcpeer.client.async_grid import AsyncGrid
from jcpeer.coordinator.history import happened
from jcpeer.errors import JcpeerError, NoNodeError, RequestError
from jcpeer.ft.replica import Replica
from jcpeer.ids import AppId, Epoch, NodeId
from jcpeer.net.memory import MemoryWorld
from jcpeer.values import evolve
from jcpeer.wire.codec import pack
from jcpeer.wire.facts import AttemptLost, Ended, Entry, OutputLost, Reconciled
from jcpeer.wire.requests import Happened
from simulations.chaos_plot import PREFIX, At, Deed, Episode, Moment, Plot, Recover, When, Wish, deed_shown
from simulations.chaos_watch import Record, UnlikeExecutor, Watch, essence
from simulations.checkers import directory_problems, journal_problems, machine_problems, rest_problems
from simulations.faults import Crash, Cut, Empty, Haste, Heal, Injector, Lossless, Lossy, Reset, Resume, Start
from simulations.grid import SimulatedNode, open_grid
from simulations.scenario import leaves
from simulations.virtual_time import cpu_limit, run_seeded

SETTLE_S = 1.0
MOMENTS_UNTIL_S = 60.0
"""A moment that has not come until then does not come."""
END_S = 240.0
"""Once all faults have passed, every accepted application ends within that time: a chain of 30 tasks takes 45 s."""
ONE_COORDINATOR_S = 20.0
"""Once all faults have passed: nodes that are suspected for silence are dialled again after a while."""
REST_S = 90.0
AGAIN_S = 0.5
MEETING_S = 5.0 + 2.0
"""So long two sides of a split need to find each other, once it has healed: a dial that began in the cut says nothing
for 5 s, and whoever is called up is called again after 2 s."""
CPU_S_MAX = 60.0
"""The longest takes two seconds."""
RECOVERY_TRIES = 6
RECOVERY_S = 15.0


@frozen
class Ending:
    """What came of a plot. `counts` are of things that happened, by name."""

    seed: int
    problems: tuple[str, ...]
    digest: str
    virtual_s: float
    counts: Mapping[str, int]
    states: frozenset[int]
    history: tuple[str, ...] = ()


def play(plot: Plot) -> Ending:
    """The same plot has the same ending. A node that fell, or a mistake of this very program, is one, too."""
    played = _Play(plot)
    try:
        with cpu_limit(CPU_S_MAX):
            return run_seeded(played.run, seed=plot.seed)
    except Exception as error:
        first = next(leaves(error)) if isinstance(error, ExceptionGroup) else error
        where = traceback.extract_tb(first.__traceback__)[-1]
        fell = f"fell: {first!r} in {where.name}, {Path(where.filename).name} line {where.lineno}"
        return Ending(plot.seed, (fell,), "", 0.0, {}, frozenset(played.watch.states), tuple(played.injector.history))


class _Play:
    def __init__(self, plot: Plot) -> None:
        self.plot = plot
        self.watch = Watch()
        self.watch.on_moment = self._moment
        self._waiting: dict[tuple[str, Moment, int], list[Episode]] = {}
        self._done = {(wish.name, each): trio.Event() for wish in plot.wishes for each in ("owner", "follower")}
        self._shown: dict[tuple[str, str], dict[int, Happened]] = {key: {} for key in self._done}
        self._apps: dict[str, AppId] = {}
        self._under_way = 0
        self._met_s = 0.0
        """Before that two sides may have ended it without each other."""
        self._lost: set[str] = set()
        """Journals that are gone, or not what they were."""

    async def run(self) -> Ending:
        plot, watch = self.plot, self.watch
        world = MemoryWorld(plot.seed, loss=plot.loss)
        async with open_grid(world, executor_of=lambda node, clock_s: UnlikeExecutor(watch, node, clock_s)) as grid:
            self.grid, self.injector = grid, Injector(grid)
            with watch.looking(grid):
                for name in plot.nodes:
                    await grid.start(name)
                await trio.sleep(SETTLE_S)
                self.began_s = trio.current_time()
                async with trio.open_nursery() as nursery:
                    self.nursery = nursery
                    nursery.start_soon(self._stop_when_wrong, nursery.cancel_scope)
                    for wish in plot.wishes:
                        nursery.start_soon(self._want, wish)
                        nursery.start_soon(self._follow, wish, "follower", wish.follower)
                    for episode in plot.episodes:
                        self._expect(episode)
                    await self._see_it_end()
                    nursery.cancel_scope.cancel()
        counts = {**watch.counts, "faults": len(self.injector.history)}
        return Ending(
            plot.seed,
            tuple(watch.problems),
            world.trace.digest,
            trio.current_time(),
            counts,
            frozenset(watch.states),
            tuple(self.injector.history),
        )

    async def _stop_when_wrong(self, scope: trio.CancelScope) -> None:
        await self.watch.wrong.wait()
        scope.cancel()

    # --- faults

    def _expect(self, episode: Episode) -> None:
        begins = episode.begins
        if isinstance(begins, At):
            self.nursery.start_soon(self._happen_at, begins.at_s, episode)
        else:
            self._waiting.setdefault((begins.application, begins.moment, begins.count), []).append(episode)

    async def _happen_at(self, at_s: float, episode: Episode) -> None:
        await trio.sleep_until(self.began_s + at_s)
        await self._happen(episode)

    def _moment(self, name: str, moment: Moment, count: int) -> None:
        for episode in self._waiting.pop((name, moment, count), ()):
            self.watch.counts["aimed faults"] += 1
            self._under_way += 1
            self.nursery.start_soon(self._happen_at_once, episode)

    async def _happen_at_once(self, episode: Episode) -> None:
        begins = episode.begins
        await trio.sleep(begins.later_s if isinstance(begins, When) else 0.0)
        self._under_way -= 1
        await self._happen(episode)

    async def _happen(self, episode: Episode) -> None:
        self._under_way += 1
        meant: dict[str, str] = {}
        for fault in episode.faults:
            await self._inject(self._aimed(fault, meant))
        await trio.sleep(episode.lasting_s)
        for fault in episode.undone_by:
            await self._inject(self._aimed(fault, meant))
        self._under_way -= 1

    async def _inject(self, fault: Deed) -> None:
        if isinstance(fault, Recover):
            await self._recover(fault)
            return
        if isinstance(fault, Crash) and fault.disk != "kept":
            self.watch.counts[f"disks {fault.disk}"] += 1
            self._excuse(fault.node)
        if isinstance(fault, Heal):
            self._met_s = trio.current_time() + MEETING_S
        await self.injector.inject(fault)

    async def _recover(self, deed: Recover) -> None:
        """Tried for as long as the user of a stalled application might; it may be that nothing needs recovery."""
        app = self._apps.get(deed.application)
        node = self.grid.nodes.get(deed.node)
        if app is None or node is None:
            return
        record = self.watch.records[app]
        for _ in range(RECOVERY_TRIES):
            try:
                with trio.fail_after(RECOVERY_S):
                    # What is lost by this its user was told: from the moment on that it may be.
                    record.agreed, before = False, record.agreed
                    await node.client.session.recover(app)
            except (JcpeerError, trio.TooSlowError) as error:
                record.agreed = before and isinstance(error, RequestError)
                await trio.sleep(AGAIN_S)
            else:
                record.recovered = True
                self.watch.counts["recovered"] += 1
                self.injector.history.append(f"{trio.current_time():8.1f} s  {deed_shown(deed)}")
                return

    def _aimed(self, fault: Deed, meant: dict[str, str]) -> Deed:
        """The fault with the names of those who have the roles that it names."""

        def name_of(name: str) -> str:
            if not name.startswith(PREFIX):
                return name
            if name not in meant:
                meant[name] = self._in_role(*name.removeprefix(PREFIX).split())
            return meant[name]

        if isinstance(fault, Cut):
            return _sides(fault, name_of)
        if isinstance(fault, Heal | Lossy | Lossless):
            return fault
        if isinstance(fault, Reset):
            fault = evolve(fault, other=name_of(fault.other))
        return evolve(fault, node=name_of(fault.node))

    def _in_role(self, role: str, name: str) -> str:
        """Who that is at present; a coordinator, or anybody, where nobody has the role."""
        app = self._apps.get(name)
        copies = self._copies(app) if app is not None else []
        if role == "left":
            return copies[-1][0].name if copies else self.plot.nodes[-1]
        found = [node for node, copy in copies if copy.role == role]
        if role == "replica":
            found = [node for node, copy in copies if copy.role != "coordinator"]
        elif role == "successor":
            reigning = [copy.ftc for _, copy in copies if copy.role == "coordinator"]
            found = [node for node, _ in copies if node.id in reigning]
        elif not found:
            found = [node for node, copy in copies if copy.role == "coordinator"]
        return found[-1].name if found else self.plot.nodes[0]

    def _copies(self, app: AppId) -> list[tuple[SimulatedNode, Replica]]:
        """Of nodes that run, by epoch."""
        found = [(each, copy.machine) for each in self.grid.running if (copy := each.running.copies.get(app))]
        return sorted(found, key=lambda each: each[1].epoch or Epoch(0, NodeId("")))

    def _coordinators(self, app: AppId) -> list[str]:
        return [node.name for node, copy in self._copies(app) if copy.role == "coordinator"]

    def _excuse(self, node: str) -> None:
        """This disk is lost, or what was not synced on it: what was promised with fewer copies goes along."""
        simulated = self.grid.nodes.get(node)
        if simulated is None:
            return
        self._lost.add(simulated.disk.journal_id)
        for app, record in self.watch.records.items():
            held = app in simulated.disk.load()
            begun = simulated.node is not None and simulated.node.copies.get(app) is not None
            sets = [copy.replica_set for _, copy in self._copies(app)]
            latest = max(sets, key=lambda each: each.number, default=None)
            gone = [each for each in latest.seats if each.journal in self._lost] if latest is not None else []
            if held and (latest is None or not latest.quorum or len(latest.seats) - len(gone) < latest.enough):
                record.excused = f"the disk of {node} was lost"
            elif not record.accepted and (
                node == self._owner(record.name) or ((held or begun) and not self._kept_besides(node, app))
            ):
                record.excused = f"{node} lost its disk before it was accepted"

    def _kept_besides(self, node: str, app: AppId) -> bool:
        """Somebody else's disk has something of it."""
        return any(app in each.disk.load() for each in self.grid.nodes.values() if each.name != node)

    def _owner(self, name: str) -> str:
        return next(each.node for each in self.plot.wishes if each.name == name)

    # --- clients

    async def _want(self, wish: Wish) -> None:
        """The owner of an application: hands it over, until it is taken, and looks on."""
        await trio.sleep_until(self.began_s + wish.at_s)
        draw = random.Random(f"{self.plot.seed} {wish.name}")
        header = Header(
            wish.name,
            self.grid.world.wall_s,
            draw.randbytes(16),
            user="user",
            placement=wish.placement,
            dispatch=wish.dispatch,
            replicas=wish.replicas,
            takeover=wish.takeover,
        )
        app = self._apps[wish.name] = application_key(header, pack(header))
        once = frozenset(each.id for each in wish.tasks if each.once)
        record = Record(wish.name, len(wish.tasks), wish.replicas, once)
        self.watch.records[app] = record
        client = self._client(wish.node)
        while True:
            try:
                accepted = await client.session.submit(LoadedApplication(wish.name, wish.tasks), header)
                break
            except JcpeerError as error:
                self.watch.counts[f"submission: {type(error).__name__}"] += 1
                await trio.sleep(AGAIN_S)
        if accepted.app != app:
            self.watch.object("key", f"{wish.name} was accepted as another application than was handed over")
        record.accepted = True
        self.watch.counts["applications"] += 1
        if wish.cancelled_s is not None:
            self.nursery.start_soon(self._cancel, wish, client, app)
        await self._look_on(wish, "owner", client)

    async def _cancel(self, wish: Wish, client: AsyncGrid, app: AppId) -> None:
        assert wish.cancelled_s is not None
        await trio.sleep(wish.cancelled_s)
        while not self._done[wish.name, "owner"].is_set():
            try:
                await client.session.cancel(app)
                self.watch.counts["cancelled"] += 1
                return
            except NoNodeError:
                pass
            except JcpeerError:
                self.watch.counts["cancel refused"] += 1
            await trio.sleep(AGAIN_S)

    async def _follow(self, wish: Wish, who: str, node: str) -> None:
        while wish.name not in self._apps or not self.watch.records[self._apps[wish.name]].accepted:
            await trio.sleep(AGAIN_S)
        await self._look_on(wish, who, self._client(node))

    def _client(self, node: str) -> AsyncGrid:
        return self.grid.nodes[node].client

    async def _look_on(self, wish: Wish, who: str, client: AsyncGrid) -> None:
        """Every event, until the last: whatever a client sees is remembered."""
        app, seen = self._apps[wish.name], self._shown[wish.name, who]
        record = self.watch.records[app]
        while True:
            try:
                async with aclosing(client.session.events(app, max(seen, default=0))) as events:
                    async for event in events:
                        assert isinstance(event, Happened)
                        self.watch.shown(record, seen, event, f"the {who} of {wish.name}")
                        if event.kind == "ended":
                            self._done[wish.name, who].set()
                            return
            except JcpeerError as error:
                self.watch.counts[f"following: {type(error).__name__}"] += 1
            await trio.sleep(AGAIN_S)

    # --- the end

    async def _see_it_end(self) -> None:
        """Let everything happen and pass, then ask for what was promised."""
        while self._faults_to_come() and not self._all_over():
            await trio.sleep(AGAIN_S)
        self._waiting.clear()
        while self._under_way:
            await trio.sleep(AGAIN_S)
        await self._repair()
        calm_s = trio.current_time()
        while not self._all_over():
            await trio.sleep(AGAIN_S)
            await self._start_the_ended()
            if calm_s + ONE_COORDINATOR_S <= trio.current_time() < calm_s + ONE_COORDINATOR_S + AGAIN_S:
                self._check_coordinators()
            if trio.current_time() > calm_s + END_S:
                break
        await self._come_to_rest()
        for problem in self._problems():
            self.watch.object(*problem)

    def _faults_to_come(self) -> bool:
        now_s = trio.current_time() - self.began_s
        timed = any(isinstance(each.begins, At) and each.begins.at_s >= now_s for each in self.plot.episodes)
        return timed or self._under_way > 0 or (bool(self._waiting) and now_s < MOMENTS_UNTIL_S)

    def _all_over(self) -> bool:
        """Nothing is left to be waited for."""
        for wish in self.plot.wishes:
            app = self._apps.get(wish.name)
            record = self.watch.records.get(app) if app is not None else None
            excused = record is not None and bool(record.excused)
            if not excused and not all(self._done[wish.name, each].is_set() for each in ("owner", "follower")):
                return False
        return True

    async def _repair(self) -> None:
        """Everything that is still wrong passes now."""
        await self._inject(Heal())
        await self._inject(Lossless())
        for name in list(self.grid.nodes):
            for fault in (Haste(name), Empty(name), Resume(name), Start(name)):
                await self._inject(fault)

    async def _start_the_ended(self) -> None:
        """One whose disk was full takes its leave, for as long as that takes, before it can be started again."""
        for name in [name for name, each in self.grid.nodes.items() if each.node is None]:
            await self._inject(Start(name))

    async def _come_to_rest(self) -> None:
        since_s = trio.current_time()
        while trio.current_time() < since_s + REST_S:
            if not (self._goes_on() or rest_problems(self.grid) or directory_problems(self.grid)):
                return
            await trio.sleep(5 * AGAIN_S)

    def _goes_on(self) -> bool:
        """Both clients may have been told the end by one side of a split, when the one that stands is still at it."""
        hosts = [host for each in self.grid.running for host in each.running.applications]
        return any(
            record.accepted and not record.excused and host.app == app and not host.machine.over
            for app, record in self.watch.records.items()
            for host in hosts
        )

    def _check_coordinators(self) -> None:
        for app, record in self.watch.records.items():
            ended = any(self._done[record.name, who].is_set() for who in ("owner", "follower"))
            if record.accepted and not record.excused and not ended:
                found = self._coordinators(app)
                if len(found) != 1:
                    names = ", ".join(found) or "nobody"
                    self.watch.object(
                        "I13", f"{ONE_COORDINATOR_S:g} s after all faults {record.name} is coordinated by {names}"
                    )

    def _problems(self) -> Iterator[tuple[str, str]]:
        for each in machine_problems(self.grid):
            yield "machine", each
        all_excused = any(each.excused for each in self.watch.records.values())
        if not all_excused:
            for each in rest_problems(self.grid):
                yield "I8", f"{each}, {REST_S:g} s after every end"
        for each in directory_problems(self.grid):
            yield "directory", f"{each}, {REST_S:g} s after the last fault"
        for wish in self.plot.wishes:
            app = self._apps.get(wish.name)
            record = self.watch.records.get(app) if app is not None else None
            if app is None or record is None:
                yield "I11", f"{wish.name} was never handed over"
            elif not record.excused:
                yield from self._problems_of(wish, app, record)

    def _problems_of(self, wish: Wish, app: AppId, record: Record) -> Iterator[tuple[str, str]]:
        journal = self._journal(app)
        ended = [each.fact.status for each in journal if isinstance(each.fact, Ended)]
        if not record.accepted:
            yield "I11", f"{wish.name} was not accepted within {END_S:g} s of calm"
        elif not ended:
            yield "I11", f"{wish.name} was accepted, and has not ended {END_S:g} s after the last fault"
        for who in ("owner", "follower"):
            if ended and record.accepted and not self._done[wish.name, who].is_set():
                yield "I11", f"the {who} of {wish.name} was not told of its end"
        for problem in journal_problems(journal, repeatable=False):
            yield "I6", f"the journal of {wish.name}: {problem}"
        if ended and ended[0] not in self._possible_ends(wish, journal):
            yield "I10", f"{wish.name} ended {ended[0]}"
        reconciled = [each.fact for each in journal if isinstance(each.fact, Reconciled)]
        named = {task for each in reconciled for task in (*each.changed, *each.twice)}
        final = {entry.index: entry for entry in journal}
        crashed = any("crashes" in each or "full" in each for each in self.injector.history)
        apart = any(record.ends_s[each.epoch] < self._met_s for each in journal if isinstance(each.fact, Ended))
        for who in ("owner", "follower"):
            for event in self._shown[wish.name, who].values():
                if record.agreed:
                    entry = final.get(event.index)
                    now = happened(entry, str) if entry is not None else None
                    if now is None or essence(now) != essence(event):
                        became = now.kind if now is not None else "nothing"
                        what = f"event {event.index}, {event.kind} {event.task or ''}"
                        yield "I3", f"the {who} of {wish.name} was shown {what}, which is {became} in the end"
                elif crashed or apart or record.recovered:
                    continue  # whoever knew it may have come back after the end, when nobody is told any more
                elif event.kind == "finished" and event.task not in named and not _stands(event, journal):
                    yield "available", f"the {who} of {wish.name} was shown a result of {event.task} that nobody names"

    def _possible_ends(self, wish: Wish, journal: list[Entry]) -> set[str]:
        ends = {"ok"}
        if any(isinstance(each.fact, AttemptLost | OutputLost) and each.fact.final for each in journal):
            ends.add("failed")
        if wish.cancelled_s is not None:
            ends.add("cancelled")
        return ends

    def _journal(self, app: AppId) -> list[Entry]:
        """The one that stands: of the highest epoch, and of these the longest."""
        journals = [list(each.disk.read(app, after_index=0)) for each in self.grid.nodes.values()]
        return max(journals, key=lambda each: (each[-1].epoch, len(each)) if each else (), default=[])


def _sides(cut: Cut, name_of: Callable[[str], str]) -> Cut:
    """Nobody is cut from itself: a role stands on its side, and who is named on both sides is on the first."""
    aimed = {name_of(each) for each in cut.second if each.startswith(PREFIX)}
    aimed -= {name_of(each) for each in cut.first if each.startswith(PREFIX)}
    first = [each for each in map(name_of, cut.first) if each not in aimed]
    second = [each for each in map(name_of, cut.second) if each not in first]
    return evolve(cut, first=tuple(dict.fromkeys(first)), second=tuple(dict.fromkeys(second)))


def _stands(shown: Happened, journal: list[Entry]) -> bool:
    """The result of this task is the one that was shown."""
    events = (happened(each, str) for each in journal)
    results = [each for each in events if each is not None and (each.kind, each.task) == (shown.kind, shown.task)]
    return any(essence(each)[-1] == essence(shown)[-1] for each in results)
