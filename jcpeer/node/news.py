"""What a client that watches an application is told: committed entries as events, many to a reply."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from jcpeer.coordinator.history import happened
from jcpeer.ids import NodeId
from jcpeer.node.hosting import ApplicationHost
from jcpeer.values import evolve
from jcpeer.wire.facts import Ended, Entry
from jcpeer.wire.messages import Output
from jcpeer.wire.requests import Happened, News

REPLY_BYTES_MAX = 1024 * 1024
"""Of values in one reply, but for the last."""
ENTRIES_MAX = 200
"""In one reply. A client that is told of a long past gets on with it meanwhile."""
READ_AT_ONCE_MAX = 5 * ENTRIES_MAX
"""Of a long past."""


def by_the_hundred(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Parts for a reply each. The end, after which nothing is told, is the last of its part."""
    first = 0
    for after, entry in enumerate(entries, start=1):
        if after == first + ENTRIES_MAX or isinstance(entry.fact, Ended):
            yield entries[first:after]
            first = after
    if first < len(entries):
        yield entries[first:]


def news_of(
    entries: Iterable[Entry],
    host: ApplicationHost,
    name_of: Callable[[NodeId], str],
    *,
    values: bool,
    only: Collection[str] | None,
) -> Iterator[News]:
    """What a client is told of these entries; with `values` it may be more than fits one reply. `only`: see `Watch`."""
    told: list[Happened] = []
    room = REPLY_BYTES_MAX
    for entry in entries:
        event = happened(entry, name_of)
        if event is None or not (only is None or event.task in only or event.kind == "ended"):
            continue
        if event.outputs:
            outputs = with_data(event.outputs, host, room=REPLY_BYTES_MAX) if values else _bare(event.outputs)
            event = evolve(event, outputs=outputs)
            room -= sum([len(each.data) for each in outputs if each.data])
        told.append(event)
        if room <= 0:
            yield News(tuple(told))
            told, room = [], REPLY_BYTES_MAX
    if told:
        yield News(tuple(told))


def with_data(outputs: tuple[Output, ...], host: ApplicationHost, *, room: int) -> tuple[Output, ...]:
    """With the data of small ones as far as there is room, in bytes; for the others the client asks one by one."""
    filled = []
    for output in outputs:
        if output.blob.small and output.data is None and room > 0:
            output = evolve(output, data=host.small_blob(output.blob.digest))
        filled.append(output)
        room -= len(output.data or b"")
    return tuple(filled)


def _bare(outputs: tuple[Output, ...]) -> tuple[Output, ...]:
    return tuple([evolve(each, data=None) if each.data is not None else each for each in outputs])
