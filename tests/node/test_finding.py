from __future__ import annotations

from collections.abc import Callable

import trio
import trio.testing

from jcpeer.dht.machine import TIMEOUT_S, KeyMessage
from jcpeer.ids import NodeId, closest_set
from jcpeer.node.finding import Finding
from jcpeer.wire.messages import Contact, News, Signed
from simulations.key_world import judge_by_number, record_of
from tests.dht.people import contact

KEY = 77


class Post:
    """Carries what they say between some findings; who is not among them does not answer."""

    def __init__(self) -> None:
        self.findings: dict[NodeId, Finding] = {}
        self.send_channel, self.receive_channel = trio.open_memory_channel[tuple[Contact, NodeId, KeyMessage]](1000)

    def add(self, number: int) -> Finding:
        me = contact(number)

        def send(to: Contact, message: KeyMessage) -> None:
            self.send_channel.send_nowait((me, to.node, message))

        finding = self.findings[me.node] = Finding(me, send, judge=judge_by_number)
        return finding

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for each in self.findings.values():
                nursery.start_soon(each.run)
            async for source, to, message in self.receive_channel:
                await trio.sleep(0.001)
                if to in self.findings:
                    self.findings[to].heard(source.node, message, source.addresses)


async def test_nodes_and_records_are_found_through_others(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    post = Post()
    findings = [post.add(number) for number in range(20)]
    nursery.start_soon(post.run)
    for finding in findings[1:]:
        finding.seen(contact(0), watched=False)
        await trio.sleep(0.5)
    found = await findings[7].closest(KEY)
    assert tuple(each.contact.node for each in found) == closest_set(KEY, post.findings, k=8)
    news = News(contact(3).node, 1, 1, Signed(b"", b""))
    findings[3].renew(contact(3), news)
    assert news in [each.news for each in await findings[7].closest(KEY, count=20, introduce=True)]

    findings[5].publish(KEY, record_of(KEY, 1, lifetime_s=60.0))
    await trio.sleep(1)
    assert await findings[11].record(KEY) == record_of(KEY, 1, lifetime_s=60.0)
    await trio.sleep(100)
    assert await findings[11].record(KEY) == record_of(KEY, 1, lifetime_s=60.0), "kept up"
    findings[5].withdraw(KEY)
    await trio.sleep(70)
    assert await findings[11].record(KEY) is None


async def test_a_caller_that_is_cancelled_leaves_no_lookup_behind(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    post = Post()
    finding = post.add(1)
    finding.seen(contact(2))
    nursery.start_soon(post.run)
    with trio.move_on_after(TIMEOUT_S / 2) as scope:
        await finding.closest(KEY)
    assert scope.cancelled_caught
    assert not finding.machine._searches
    await trio.sleep(10)
    assert [each.contact for each in await finding.closest(KEY)] == [contact(1)]


async def test_a_send_that_fails_at_once_is_heard_of_after_what_was_said_before(
    autojump_clock: trio.testing.MockClock,
) -> None:
    tried: list[NodeId] = []
    unreached: list[Callable[[NodeId], None]] = []

    def send(to: Contact, message: KeyMessage) -> None:
        tried.append(to.node)
        unreached[0](to.node)

    finding = Finding(contact(1), send, judge=judge_by_number)
    unreached.append(finding.unreached)
    for number in range(2, 12):
        finding.seen(contact(number))
    found = await finding.closest(KEY)
    assert [each.contact for each in found] == [contact(1)]
    assert set(tried) == {contact(number).node for number in range(2, 12)}
    finding.machine.check()
