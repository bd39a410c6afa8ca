"""The safety of what was promised, broken on purpose: each mutant is one change of text, and some test must notice it.

A mutant whose text is no longer there has to be written anew for the code as it is; it is never left out in silence.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Mutant:
    """`old`, which occurs once in the file, becomes `new`. `tests` are tried first: files, or parts of them."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()


PARTICIPANT = "jcpeer/work/participant.py"
COORDINATOR = "jcpeer/coordinator/machine.py"
RECORDER = "jcpeer/coordinator/recorder.py"
JOURNAL = "jcpeer/ft/journal.py"
MANIFEST = "jcpeer/application/manifest.py"
JUDGE = "jcpeer/rdv/mandate.py"
PROOFS = "jcpeer/ft/mandate.py"
VOTES = "jcpeer/node/attesting.py"

MUTANTS = (
    # --- the fence on orders
    Mutant(
        "a call-up of a lower epoch is obeyed",
        PARTICIPANT,
        "if highest is not None and epoch < highest:",
        "if False:",
        ("tests/work/test_participant.py",),
    ),
    Mutant(
        "orders of a lower epoch are obeyed",
        PARTICIPANT,
        "if engagement is None or epoch != engagement.epoch or node != engagement.coordinator:",
        "if engagement is None:",
        ("tests/work/test_participant.py",),
    ),
    Mutant(
        "a release of a lower epoch is obeyed",
        PARTICIPANT,
        "if engagement is None or node != engagement.coordinator or message.epoch < engagement.epoch:",
        "if engagement is None:",
        ("tests/work/test_participant.py",),
    ),
    Mutant(
        "after a release, nothing is known of the epoch any more",
        PARTICIPANT,
        "self._fenced[message.app] = message.epoch",
        "pass",
        ("tests/work/test_participant.py",),
    ),
    Mutant(
        "what other participants hand over is taken in any epoch",
        PARTICIPANT,
        "if engagement is not None and engagement.epoch != epoch:",
        "if False:",
        ("tests/work/test_relaying.py",),
    ),
    Mutant(
        "a confirmation of another epoch counts",
        COORDINATOR,
        "        if message.epoch != self.epoch:\n            return []\n        if self.over:",
        "        if self.over:",
        ("tests/coordinator/test_disorder.py",),
    ),
    # --- outcomes
    Mutant(
        "an outcome with other inputs is taken",
        COORDINATOR,
        "if record.missing or self.state.consumed(outcome.task) != outcome.consumed:",
        "if record.missing:",
        ("tests/coordinator/test_disorder.py",),
    ),
    Mutant(
        "an outcome before those of its parents is taken",
        COORDINATOR,
        "if record.missing or self.state.consumed(outcome.task) != outcome.consumed:",
        "if self.state.consumed(outcome.task) not in (None, outcome.consumed):",
        ("tests/coordinator/test_disorder.py",),
    ),
    Mutant(
        "a second outcome of a task is taken",
        COORDINATOR,
        'if record.standing != "pending":\n            return self._recorder.promise(acknowledge)',
        'if record.standing not in ("pending", "finished"):\n            return self._recorder.promise(acknowledge)',
        ("tests/coordinator/test_machine.py",),
    ),
    Mutant(
        "what is told is not committed yet",
        RECORDER,
        "while self._promises and self._promises[0][0] <= self.committed:",
        "while self._promises:",
        ("tests/coordinator/test_machine.py",),
    ),
    # --- tasks that must not start twice
    Mutant(
        "the order of a task marked once leaves before it is committed that it starts",
        "jcpeer/coordinator/once.py",
        "if held.index > self._recorder.committed:",
        "if False:",
        ("tests/coordinator/test_once.py",),
    ),
    Mutant(
        "a task marked once whose attempt is lost runs again",
        COORDINATOR,
        "if record.spec.once and not unstarted and not self._attempts.of(name.task):",
        "if False:",
        ("tests/coordinator/test_once.py",),
    ),
    Mutant(
        "what a leaving node stopped counts as never started",
        PARTICIPANT,
        "GivenBack(app, running, reason)",
        "GivenBack(app, running, reason, unstarted=True)",
        ("tests/work/test_participant.py",),
    ),
    Mutant(
        "an attempt that is lost does not count",
        "jcpeer/coordinator/state.py",
        "record.losses += fact.counts",
        "pass",
        ("tests/coordinator",),
    ),
    # --- the journal
    Mutant(
        "a promise need not outlive the machine",
        "jcpeer/ft/disk.py",
        "return isinstance(write, Promise | Sure) or (isinstance(write, Append) and write.synced)",
        "return isinstance(write, Append) and write.synced",
    ),
    Mutant(
        "a set change need not outlive the machine",
        "jcpeer/ft/disk.py",
        "return isinstance(write, Promise | Sure) or (isinstance(write, Append) and write.synced)",
        "return isinstance(write, Promise | Sure)",
    ),
    Mutant(
        "a promise is not kept",
        JOURNAL,
        "held.promised = epoch\n        self._write(Promise(app, epoch))",
        "held.promised = epoch\n        self._news.set()",
    ),
    Mutant(
        "a promise can be lowered",
        JOURNAL,
        "if held.promised is not None and epoch < held.promised:",
        "if False:",
    ),
    Mutant(
        "an entry of a lower epoch follows",
        JOURNAL,
        "if held.runs and entry.epoch < held.runs[-1][1]:",
        "if False:",
    ),
    Mutant(
        "what is committed can be taken back",
        JOURNAL,
        "if after_index < (0 if even_committed else held.committed):",
        "if after_index < 0:",
    ),
    Mutant(
        "it is reported before the disk has it",
        JOURNAL,
        "            await self._disk.commit(group)\n        for each in awaiting:",
        "            pass\n        for each in awaiting:",
    ),
    Mutant(
        "what is taken back while it is written counts as written",
        JOURNAL,
        "self._written[app] = Written(min(index, self._cuts.get(app, index)), promised or before.promised)",
        "self._written[app] = Written(index, promised or before.promised)",
    ),
    Mutant(
        "a copied file keeps its name",
        "jcpeer/ft/sqlite_disk.py",
        "if known_file != file:",
        "if False:",
    ),
    Mutant(
        "after a reboot everything is sure",
        "jcpeer/ft/sqlite_disk.py",
        "elif self._unsynced_boot not in (None, self._boot):",
        "elif False:",
    ),
    # --- who may coordinate
    Mutant(
        "half of the seats are a majority",
        MANIFEST,
        "return len(self.seats) // 2 + 1 if self.quorum else 1",
        "return (len(self.seats) + 1) // 2 if self.quorum else 1",
        ("tests/rdv/test_mandate.py",),
    ),
    Mutant(
        "one vote too few is believed",
        JUDGE,
        "if counted < of.enough:",
        "if counted < of.enough - 1:",
        ("tests/rdv/test_mandate.py",),
    ),
    Mutant(
        "a vote that comes twice counts twice",
        JUDGE,
        "counted = len(set(seats))",
        "counted = len(list(seats))",
        ("tests/rdv/test_mandate.py",),
    ),
    Mutant(
        "the name of a voter's journal is ignored",
        JUDGE,
        "if held.journal != seat.journal:",
        "if False:",
        ("tests/rdv/test_mandate.py",),
    ),
    Mutant(
        "a vote is good for every epoch",
        JUDGE,
        "if vote.epoch != epoch:",
        "if False:",
        ("tests/rdv/test_mandate.py",),
    ),
    Mutant(
        "a set may differ by two seats",
        JUDGE,
        "if len(differing) > 1 or",
        "if len(differing) > 2 or",
        ("tests/rdv/test_mandate.py",),
    ),
    Mutant(
        "who has no seat may coordinate",
        JUDGE,
        "if proven.seat_of(mandate.epoch.node) is None:",
        "if False:",
        ("tests/rdv/test_mandate.py",),
    ),
    Mutant(
        "a statement is good for every set of its number",
        JUDGE,
        "if seated.replica_set != link.replica_set:",
        "if seated.replica_set.number != link.replica_set.number:",
        ("tests/rdv/test_mandate.py",),
    ),
    # --- a copy, as replica, voter, candidate and coordinator
    Mutant(
        "a copy that was made anew votes",
        "jcpeer/ft/voting.py",
        "if state.new:",
        "if False:",
        ("tests/ft",),
    ),
    Mutant(
        "a vote of a lower epoch than was promised",
        "jcpeer/ft/voting.py",
        "if state.promised is not None and epoch < state.promised:",
        "if False:",
        ("tests/ft",),
    ),
    Mutant(
        "a vote is told before the promise is on the disk",
        "jcpeer/ft/voting.py",
        "if question is None or not self._state.holds(question.epoch):",
        "if question is None:",
        ("tests/ft",),
    ),
    Mutant(
        "a candidate asks before its own promise is on the disk",
        "jcpeer/ft/candidacy.py",
        'if self.phase != "promising" or not self._state.holds(self.epoch):',
        'if self.phase != "promising":',
        ("tests/ft",),
    ),
    Mutant(
        "a candidate needs one vote less",
        "jcpeer/ft/candidacy.py",
        "return self._sure_voters() >= latest.enough or (",
        "return 1 + self._sure_voters() >= latest.enough or (",
        ("tests/ft",),
    ),
    Mutant(
        "entries of earlier reigns are committed by their count",
        "jcpeer/ft/leading.py",
        "if reached <= log.committed or log.epoch_at(reached) != self.epoch or not self._state.holds(self.epoch):",
        "if reached <= log.committed or not self._state.holds(self.epoch):",
        ("tests/ft",),
    ),
    Mutant(
        "it is acknowledged before the disk has it",
        "jcpeer/ft/following.py",
        "kept = min(self._agreed, state.log.written)",
        "kept = self._agreed",
        ("tests/ft",),
    ),
    Mutant(
        "entries are appended wherever they come",
        "jcpeer/ft/following.py",
        "if not log.has(message.after_index, message.after_epoch):",
        "if False:",
        ("tests/ft",),
    ),
    Mutant(
        "a copy that lost something is sure at once",
        "jcpeer/ft/following.py",
        "if state.unsure and self._goal is not None and kept >= self._goal:",
        "if state.unsure:",
        ("tests/ft",),
    ),
    Mutant(
        "two sets change at once",
        "jcpeer/ft/seating.py",
        "and log.changed_at <= log.committed",
        "and True",
        ("tests/ft",),
    ),
    Mutant(
        "a set changes before anything of the reign is committed",
        "jcpeer/ft/seating.py",
        "return log.epoch_at(log.committed) == self._leading.epoch and log.changed_at",
        "return log.changed_at",
        ("tests/ft",),
    ),
    Mutant(
        "unsure votes count like others",
        "jcpeer/ft/candidacy.py",
        "sure = [node for node in self._voters() if not self._answers[node].unsure]",
        "sure = [node for node in self._voters()]",
        ("tests/ft",),
    ),
    Mutant(
        "of unsure copies not all are needed",
        "jcpeer/ft/candidacy.py",
        "voters >= latest.enough and voters + self._seats_gone() == len(latest.seats)",
        "voters >= latest.enough",
        ("tests/ft",),
    ),
    Mutant(
        "a copy that was made anew counts",
        "jcpeer/ft/candidacy.py",
        "if not state.seated or state.new:",
        "if not state.seated:",
        ("tests/ft",),
    ),
    Mutant(
        "the longest journal is adopted",
        "jcpeer/ft/candidacy.py",
        'return (epoch.counter, epoch.node, index) if epoch is not None else (0, "", index)',
        'return (0, "", index)',
        ("tests/ft",),
    ),
    Mutant(
        "the vote of another journal counts",
        "jcpeer/ft/candidacy.py",
        "if answer.granted and Seat(node, answer.journal) in self._state.log.latest.seats:",
        "if answer.granted:",
        ("tests/ft",),
    ),
    Mutant(
        "a journal without the quorum is adopted",
        "jcpeer/ft/candidacy.py",
        "if log.quorum is not None and log.quorum.binds(_quorum_of(answer)):",
        "if False:",
        ("tests/ft",),
    ),
    Mutant(
        "a candidate goes on against what a quorum promised",
        "jcpeer/ft/candidacy.py",
        "if quorum is not None and quorum.binds(self._state.log.quorum):",
        "if False:",
        ("tests/ft",),
    ),
    Mutant(
        "who lacks what a quorum promised gets votes",
        "jcpeer/ft/voting.py",
        "if state.log.quorum is not None and state.log.quorum.binds(asked):",
        "if False:",
        ("tests/ft",),
    ),
    Mutant(
        "votes are given while the coordinator lives",
        "jcpeer/ft/voting.py",
        "if self._belief.alive and self._belief.coordinator != node:",
        "if False:",
        ("tests/ft",),
    ),
    Mutant(
        "a candidate that was promised nothing gets entries",
        "jcpeer/ft/voting.py",
        "if state.promised != wanted.epoch or wanted.epoch.node != node or not state.holds(wanted.epoch):",
        "if False:",
        ("tests/ft",),
    ),
    Mutant(
        "another journal of a seat's node counts",
        "jcpeer/ft/leading.py",
        "return peer.match if peer is not None and peer.journal == seat.journal else 0",
        "return peer.match if peer is not None else 0",
        ("tests/ft",),
    ),
    Mutant(
        "one journal less commits",
        "jcpeer/ft/leading.py",
        "return matches[counted.enough - 1]",
        "return matches[max(counted.enough - 2, 0)]",
        ("tests/ft",),
    ),
    Mutant(
        "the own journal counts before it is written",
        "jcpeer/ft/leading.py",
        "return self._state.log.written\n",
        "return self._state.log.last_index\n",
        ("tests/ft",),
    ),
    Mutant(
        "a change that makes a quorum waits for nobody",
        "jcpeer/ft/leading.py",
        "if makes_quorum and any(self._match(seat) < change.index for seat in awaited):",
        "if False:",
        ("tests/ft",),
    ),
    Mutant(
        "who woke promises at once",
        "jcpeer/ft/leading.py",
        "self._hold_until_s = now_s + HOLD_S",
        "pass",
        ("tests/ft",),
    ),
    Mutant(
        "what a quorum committed is cut",
        "jcpeer/ft/following.py",
        "return available or self._recovered or self._state.unsure or not self._state.seated",
        "return True",
        ("tests/ft",),
    ),
    Mutant(
        "a newcomer gets a seat before it has caught up",
        "jcpeer/ft/seating.py",
        "if not leading.has_caught_up(leading.invited):",
        "if False:",
        ("tests/ft",),
    ),
    Mutant(
        "an outlived reign is obeyed",
        "jcpeer/ft/replica.py",
        "if self._outlived(epoch, event.proven) and not event.recovered:",
        "if False:",
        ("tests/ft",),
    ),
    Mutant(
        "entries of whoever comes are obeyed",
        "jcpeer/ft/replica.py",
        "!= (node, message.epoch):\n            return []  # of whose reign",
        "== ():\n            return []  # of whose reign",
        ("tests/ft",),
    ),
    # --- what a takeover rests on
    Mutant(
        "it reigns before what it adopted is on its disk",
        "jcpeer/ft/candidacy.py",
        'if self.phase == "settling" and self._state.log.written == self._state.log.last_index:',
        'if self.phase == "settling":',
        ("tests/ft",),
    ),
    Mutant(
        "votes are not counted again in a set that was adopted",
        "jcpeer/ft/candidacy.py",
        'self._source = self._source_node = None\n        self._enter("electing", now_s)\n'
        "        return self._ask_all() + self._go_on(now_s)",
        'self._source = self._source_node = None\n        self.phase = "settling"\n'
        "        self.written()\n        return []",
        ("tests/ft",),
    ),
    Mutant(
        "it is acknowledged before the promise is on the disk",
        "jcpeer/ft/following.py",
        "if self._agreed is None or not state.holds(self.epoch):",
        "if self._agreed is None:",
        ("tests/ft",),
    ),
    Mutant(
        "entries of a lower epoch are taken",
        "jcpeer/ft/replica.py",
        "if highest is not None and message.epoch < highest:",
        "if False:",
        ("tests/ft",),
    ),
    Mutant(
        "a change counts in the set that it makes",
        "jcpeer/ft/log.py",
        "if each.index < index or not each.index)",
        "if each.index <= index or not each.index)",
        ("tests/ft",),
    ),
    Mutant(
        "a vote is believed whoever signed it",
        VOTES,
        "return certificate.node == node and vote == Vote(self._app, answer.epoch, answer.journal)",
        "return True",
        ("tests/node/test_attesting.py",),
    ),
    Mutant(
        "a dropped copy may count again",
        "jcpeer/node/applications.py",
        "self._parts.journal.begin(copy.app, unsure=True)",
        "self._parts.journal.begin(copy.app)",
        ("tests/node/test_takeover.py",),
    ),
    Mutant(
        "an application is opened anew where it was already",
        "jcpeer/node/applications.py",
        "if copy is not None or not self._parts.journal.untouched(app):",
        "if copy is not None:",
        ("tests/node/test_takeover.py",),
    ),
    Mutant(
        "the first promise is kept without the first entry",
        "jcpeer/node/applications.py",
        "self._start(host, _recorded(copy, effects))",
        "self._start(host, effects)",
        ("tests/node/test_takeover.py",),
    ),
    # --- two that coordinated, each without the other
    Mutant(
        "what differs is dropped only when what came of it is committed",
        COORDINATOR,
        "            effects.append(taken)\n",
        "            effects += self._recorder.promise(taken)\n",
        ("tests/coordinator/test_reconciling.py",),
    ),
    Mutant(
        "what is handed on is answered only when it is committed",
        "jcpeer/node/handing_on.py",
        "TakeSeal(app, fact.seal, handed_on=True)",
        "TakeSeal(app, fact.seal)",
        ("tests/node/test_handing_on.py",),
    ),
    Mutant(
        "whom an uncommitted change took out is not asked",
        "jcpeer/ft/candidacy.py",
        "return (*others, *self._leaving)",
        "return others",
        ("tests/ft/test_replica.py",),
    ),
    Mutant(
        "a copy with nothing is recovered",
        "jcpeer/node/recovery.py",
        "if not copy.machine.last_index:",
        "if False:",
        ("tests/simulations/test_chaos.py",),
    ),
    Mutant(
        "the end of a copy that was dropped meanwhile is kept",
        "jcpeer/node/applications.py",
        "if self._copies.get(copy.app) is copy and copy.app not in self._hosts and copy.over:",
        "if copy.app not in self._hosts and copy.over:",
        ("tests/simulations/test_chaos.py",),
    ),
)
