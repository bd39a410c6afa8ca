"""What a task needs against what nodes offer: whether it can run on one, and in words why it runs on none.

`explain` is about one task and all nodes that the coordinator knows: it says first what stands most in the way, and
sums up rather than listing nodes. It decides nothing; `roster` and `dispatch` do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter

from attrs import frozen

from jcpeer.application.manifest import Header
from jcpeer.application.task import Call, Task
from jcpeer.wire.messages import NodeRecord, Policy

REASONS_MAX = 5
NAMES_MAX = 3
NOT_ASKED = "not needed, or not asked yet"

NeedsKey = tuple[int, int, int, int, float | None, tuple[tuple[str, str], ...], str]


def needs_key(task: Task) -> NeedsKey:
    """What decides where a task can run; tasks with equal keys can run on the same nodes."""
    needs = task.needs
    python = task.work.python if isinstance(task.work, Call) else ""
    labels = tuple(sorted(needs.labels.items()))
    return (needs.cpus, needs.memory_bytes, needs.gpus, needs.disk_bytes, needs.cost_max, labels, python)


def same_offer(one: NodeRecord, other: NodeRecord) -> bool:
    """Whether two records of a node agree in what decides whether it is asked, and what it can run."""
    return _offer(one) == _offer(other) and one.labels == other.labels and one.policy == other.policy


_offer = attrgetter(
    *("incarnation", "user", "trusts_grid", "python"), *("slots", "memory_bytes", "gpus", "disk_bytes", "cost")
)


@frozen
class Need:
    """One thing that a task asks for. `missing` says of all nodes, none of which has it, how near they come."""

    wanted: str
    met: Callable[[NodeRecord], bool]
    lacking: Callable[[NodeRecord], str]
    missing: Callable[[Sequence[NodeRecord]], str]


def unmet_need(task: Task, record: NodeRecord) -> str | None:
    """What the task needs that a node does not offer, in words; None where it can run there."""
    needs = task.needs
    if (
        needs.cpus <= record.slots
        and needs.memory_bytes <= record.memory_bytes
        and not (needs.gpus or needs.disk_bytes or needs.labels or needs.cost_max is not None)
        and (not isinstance(task.work, Call) or task.work.python == record.python)
    ):
        return None  # as most are: this is asked for each node, each time
    return next((each.lacking(record) for each in _needs(task) if not each.met(record)), None)


def _needs(task: Task) -> Iterator[Need]:
    """All that this task asks for, the rarest things first."""
    needs = task.needs
    if isinstance(task.work, Call):
        yield _python(task.work.python)
    for key, value in needs.labels.items():
        yield _label(key, value)
    if needs.gpus:
        yield _amount(_counted(needs.gpus, "GPU"), lambda each: each.gpus, needs.gpus, lambda n: _counted(n, "GPU"))
    yield _amount(_counted(needs.cpus, "slot"), lambda each: each.slots, needs.cpus, lambda n: _counted(n, "slot"))
    if needs.memory_bytes:
        wanted = f"{_size(needs.memory_bytes)} of memory"
        yield _amount(wanted, lambda each: each.memory_bytes, needs.memory_bytes, _size)
    if needs.disk_bytes:
        wanted = f"{_size(needs.disk_bytes)} of free disk"
        yield _amount(wanted, lambda each: each.disk_bytes, needs.disk_bytes, _size)
    if needs.cost_max is not None:
        yield _cost(needs.cost_max)


def _amount(wanted: str, offered: Callable[[NodeRecord], int], least: int, shown: Callable[[int], str]) -> Need:
    def missing(records: Sequence[NodeRecord]) -> str:
        largest = max(records, key=offered)
        if not offered(largest):
            return f"no node has {wanted}; none has any"
        return f"no node has {wanted}; the largest is {largest.name} with {shown(offered(largest))}"

    return Need(
        f"have {wanted}",
        lambda each: offered(each) >= least,
        lambda each: f"offers {shown(offered(each))}, the task wants {wanted}",
        missing,
    )


def _label(key: str, value: str) -> Need:
    label = _label_text(key, value)

    def missing(records: Sequence[NodeRecord]) -> str:
        near = sorted({f"{key}={each.labels[key]}" for each in records if key in each.labels})
        return f"no node has the label {label}" + (f"; there are {_listed(near)}" if near else "")

    return Need(
        f"have the label {label}",
        lambda each: _has(each.labels, key, value),
        lambda each: f"lacks the label {label}",
        missing,
    )


def _python(version: str) -> Need:
    def missing(records: Sequence[NodeRecord]) -> str:
        return f"no node has Python {version}; they have {_listed(sorted({each.python for each in records}))}"

    return Need(
        f"have Python {version}",
        lambda each: each.python == version,
        lambda each: f"has Python {each.python}, the task wants {version}",
        missing,
    )


def _cost(cost_max: float) -> Need:
    def missing(records: Sequence[NodeRecord]) -> str:
        cheapest = min(each.cost for each in records)
        which = "the only node" if len(records) == 1 else f"the cheapest of the {len(records)} nodes"
        return f"max_cost {cost_max:g}: {which} asks {cheapest:g}"

    return Need(
        f"cost at most {cost_max:g}",
        lambda each: each.cost <= cost_max,
        lambda each: f"asks {each.cost:g} for an hour of a slot, the task's max_cost is {cost_max:g}",
        missing,
    )


# --- what the node's owner says


def refusal(policy: Policy, header: Header) -> str | None:
    """Why a node with this policy takes nothing of an application, in words; None where it does.

    Both sides ask: the participant, which decides, and the coordinator, which need not call it up in vain.
    """
    if header.user in policy.refuse_users:
        return f"refuses user {header.user}"
    if policy.only_users and header.user not in policy.only_users:
        return f"takes work of {_listed(policy.only_users)} only"
    for key, value in policy.refuse_labels.items():
        if _has(header.labels, key, value):
            return f"refuses applications with the label {_label_text(key, header.labels[key])}"
    for key, value in policy.only_labels.items():
        if not _has(header.labels, key, value):
            return f"takes applications with the label {_label_text(key, value)} only"
    return policy.closed or None


def _has(labels: Mapping[str, str], key: str, value: str) -> bool:
    return key in labels and (not value or labels[key] == value)


def _label_text(key: str, value: str) -> str:
    return f"{key}={value}" if value else key


# --- why a task is not placed


@frozen
class Prospect:
    """A node as the coordinator sees it. `objection` is why it has no slots for the application, None where it does;
    `busy`: the application itself has taken all of those."""

    record: NodeRecord
    objection: str | None = None
    busy: bool = False


def explain(task: Task, prospects: Sequence[Prospect]) -> list[str]:
    """Why this task, which is ready, runs nowhere: a few lines, what stands most in the way first."""
    return list(_reasons(task, prospects))[:REASONS_MAX]


def _reasons(task: Task, prospects: Sequence[Prospect]) -> Iterator[str]:
    if not prospects:
        yield "no node is in the directory; start one with `jcpeer node`"
        return
    records = [each.record for each in prospects]
    needs = list(_needs(task))
    nowhere = [need for need in needs if not any(need.met(each) for each in records)]
    if nowhere:
        yield from (need.missing(records) for need in nowhere)
        return
    selective = [need for need in needs if not all(need.met(each) for each in records)]
    able = [each for each in prospects if all(need.met(each.record) for need in selective)]
    if not able:
        yield "no node has all that the task needs together"
        for need in selective:
            yield _of_all([each for each in records if need.met(each)], records, [need.wanted])
        return
    head = _of_all([each.record for each in able], records, [each.wanted for each in selective])
    if not selective:
        head = f"{_counted(len(able), 'node')} could run it"
    taken: dict[str, list[NodeRecord]] = {}
    for each in able:
        reason = each.objection or ("is busy with this application" if each.busy else "is about to be given it")
        taken.setdefault(reason, []).append(each.record)
    groups = sorted(taken.items(), key=lambda group: -len(group[1]))
    if len(groups) == 1:
        yield f"{head}; {_quantified(*groups[0], of=len(able))}"
        return
    yield head
    for reason, nodes in groups:
        yield f"{_listed([each.name for each in nodes])}: {reason if len(nodes) == 1 else _plural(reason)}"


def _of_all(some: Sequence[NodeRecord], records: Sequence[NodeRecord], wanted: Sequence[str]) -> str:
    """ "1 of 4 nodes has 1 GPU", "2 of 4 nodes have 1 GPU"."""
    said = _joined([_singular(each) for each in wanted] if len(some) == 1 else wanted)
    return f"{len(some)} of {_counted(len(records), 'node')} {said}"


def _quantified(reason: str, nodes: Sequence[NodeRecord], *, of: int) -> str:
    """The reason as said of all of them."""
    if of == 1:
        return f"{nodes[0].name}: {reason}"
    who = "both" if of == 2 else f"all {of}"
    return f"{who} {_plural(reason)}" if reason.partition(" ")[0] in _PLURALS else f"{who}: {reason}"


def _plural(reason: str) -> str:
    """As said of several: its verb, where it begins with one, becomes a plural."""
    verb, _, rest = reason.partition(" ")
    return f"{_PLURALS[verb]} {rest}" if verb in _PLURALS else reason


_PLURALS = {
    "asks": "ask",
    "cannot": "cannot",
    "has": "have",
    "lacks": "lack",
    "is": "are",
    "offers": "offer",
    "refuses": "refuse",
    "runs": "run",
    "takes": "take",
}


def _singular(wanted: str) -> str:
    verb, _, rest = wanted.partition(" ")
    return f"{'has' if verb == 'have' else verb + 's'} {rest}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:NAMES_MAX])
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _joined(phrases: Sequence[str]) -> str:
    return " and ".join(phrases)


def _size(size: int) -> str:
    if size < 2**30 // 10:
        return f"{size / 2**20:.0f} MiB"
    unit, name = (2**40, "TiB") if size >= 10 * 2**40 else (2**30, "GiB")
    return f"{size / unit:.1f} {name}" if size % unit else f"{size // unit} {name}"
