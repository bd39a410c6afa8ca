"""Who is to keep an application, and which signed placements hold."""

from __future__ import annotations

import pytest

from jcpeer.application.manifest import Header, Placed, application_key
from jcpeer.errors import MembershipError
from jcpeer.ids import AppId, NodeId, app_key, closest_set
from jcpeer.rdv.placement import Candidate, choose, fault_of, nobody_eligible, objection, open_placed
from jcpeer.values import evolve, field_names
from jcpeer.wire.codec import pack
from tests.rdv.members import GRID, SUBMITTED_S, header, member, placed, signed_by, stranger

RDV = header()
LOCAL = header(placement="local")
KEY = 12345 << 140
ME = stranger("me")
OTHERS = tuple(stranger(f"node {number}") for number in range(8))


def nearest(*candidates: Candidate) -> tuple[NodeId, ...]:
    return closest_set(KEY, (each.node for each in candidates), k=3)


def named(*names: str) -> list[Candidate]:
    """These, nearest first."""
    found = [stranger(each) for each in names]
    order = closest_set(KEY, (each.node for each in found), k=len(found))
    return sorted(found, key=lambda each: order.index(each.node))


def test_rdv_names_the_three_closest_in_order_and_is_content() -> None:
    choice = choose(KEY, RDV, (*OTHERS, ME), me=ME)
    assert choice.replica_set == nearest(*OTHERS, ME)
    assert choice.settled


def test_local_names_the_own_node_and_then_the_closest() -> None:
    me = next(each for each in OTHERS if each.node not in nearest(*OTHERS))
    assert choose(KEY, LOCAL, OTHERS, me=me).replica_set == (me.node, *nearest(*OTHERS)[:2])


@pytest.mark.parametrize(
    "ineligible",
    [
        {"coordinates": False},
        {"dialable": False},
        {"rights": ("submit",)},
        {"since_s": SUBMITTED_S + 301},
    ],
    ids=str,
)
def test_who_is_not_eligible_is_passed_over_and_says_why(ineligible: dict[str, object]) -> None:
    first, *others = named("a", "b", "c", "d")
    changed = member(first.record.name, user="odd" if "rights" in ineligible else "ada", **ineligible)  # type: ignore[arg-type]
    choice = choose(KEY, RDV, (changed, *others), me=ME)
    assert choice.replica_set == tuple(each.node for each in others)
    why = objection(changed, submitted_s=SUBMITTED_S)
    assert why
    assert f"{first.record.name} {why}" in nobody_eligible(RDV, (changed,))
    unwilling = stranger("me", coordinates=False)
    assert choose(KEY, RDV, (changed, unwilling), me=unwilling).replica_set == ()


def test_a_clock_that_is_five_minutes_off_makes_nobody_ineligible() -> None:
    assert not objection(member("late", since_s=SUBMITTED_S + 299), submitted_s=SUBMITTED_S)


def test_of_one_host_or_invitation_there_is_one_while_others_exist() -> None:
    a, b, c, d, e = named("a", "b", "c", "d", "e")
    same_host = evolve(b, certificate=evolve(b.certificate, host=a.certificate.host))
    same_invitation = evolve(c, certificate=evolve(c.certificate, invitation=a.certificate.invitation))
    choice = choose(KEY, RDV, (a, same_host, same_invitation, d, e), me=ME)
    assert choice.replica_set == (a.node, d.node, e.node)
    assert choice.settled
    fewer = choose(KEY, RDV, (a, same_host, same_invitation), me=ME)
    assert fewer.replica_set == (a.node, b.node, c.node)
    assert not fewer.settled, "further away there may be others"
    best = choose(KEY, RDV, (a, same_host, same_invitation), me=ME, size=2)
    assert best.replica_set == (a.node, c.node), "machines fail together sooner than guests do"


def test_an_earlier_word_of_the_own_node_does_not_name_it_twice() -> None:
    before = evolve(ME, record=evolve(ME.record, version=ME.record.version + 1))
    assert choose(KEY, LOCAL, (before,), me=ME).replica_set == (ME.node,)
    assert choose(KEY, RDV, (before,), me=ME).replica_set == (ME.node,)


def test_local_hands_on_where_the_own_node_does_not_coordinate_or_cannot_be_dialled() -> None:
    for me in (stranger("me", coordinates=False), stranger("me", dialable=False)):
        assert choose(KEY, LOCAL, (*OTHERS, me), me=me).replica_set == nearest(*OTHERS)


@pytest.mark.parametrize("header", [LOCAL, RDV], ids=["local", "rdv"])
def test_a_node_that_cannot_be_dialled_keeps_its_own_application_where_nobody_else_can(header: Header) -> None:
    me = stranger("me", dialable=False)
    assert choose(KEY, header, (me, stranger("x", coordinates=False)), me=me).replica_set == (me.node,)
    refusing = stranger("me", coordinates=False)
    assert choose(KEY, header, (refusing,), me=refusing).replica_set == ()


def test_rdv_leaves_out_a_submitter_that_is_about_to_go_where_there_are_others() -> None:
    me = evolve(ME, passing=True)
    assert choose(KEY, RDV, (*OTHERS[:1], me), me=me).replica_set == (OTHERS[0].node,)
    assert choose(KEY, RDV, (me,), me=me).replica_set == (me.node,)
    assert choose(KEY, LOCAL, (*OTHERS[:1], me), me=me).replica_set == (me.node, OTHERS[0].node)


def test_local_does_not_ask_how_long_the_own_node_has_been_a_member() -> None:
    me = stranger("me", since_s=SUBMITTED_S + 1000)
    assert choose(KEY, LOCAL, (me,), me=me).replica_set == (me.node,)


# --- signed placements

SET = tuple(each.node for each in named("a", "b", "c"))


def test_a_placement_is_believed_as_its_signer_made_it() -> None:
    opened, certificate = open_placed(signed_by("me", placed(*SET)), root=GRID.root, now_s=2000.0)
    assert (opened, certificate.node) == (placed(*SET), ME.node)


def test_a_header_with_fields_of_a_later_version_keeps_its_key() -> None:
    import msgpack

    value = msgpack.unpackb(pack(placed(*SET)))
    app, header = (field_names(Placed).index(each) for each in ("app", "header"))
    value[header].append("in a good mood")
    value[app] = application_key(RDV, msgpack.packb(value[header]))
    good = signed_by("me", placed(*SET))
    identity = GRID.identity("me")
    payload = msgpack.packb(value)
    later = evolve(good, payload=payload, signature=identity.sign(b"jcpeer signed Placed\0" + payload))
    assert open_placed(later, root=GRID.root, now_s=None)[0].app == value[app]


@pytest.mark.parametrize(
    ("forged", "fault"),
    [
        (signed_by("eve", placed(*SET), user="eve"), "signed by a node of 'eve'"),
        (signed_by("me", placed(*SET), user="guest", rights=("coordinate",)), "signed by a node of 'guest'"),
        (
            signed_by("g", placed(*SET, of=header(user="guest")), user="guest", rights=("coordinate",)),
            "no right to submit",
        ),
        (signed_by("me", evolve(placed(*SET), app=AppId("0" * 40))), "not that of the application's header"),
        (signed_by("me", placed()), "impossible replica set"),
        (signed_by("me", placed(SET[0], SET[0])), "impossible replica set"),
        (evolve(signed_by("me", placed(*SET)), payload=pack(placed(SET[1]))), "bad signature"),
    ],
    ids=lambda each: each.replace(" ", "-") if isinstance(each, str) else "",
)
def test_a_forged_placement_is_refused_with_the_reason(forged: object, fault: str) -> None:
    with pytest.raises(MembershipError, match=fault):
        open_placed(forged, root=GRID.root, now_s=None)  # type: ignore[arg-type]


def test_a_placement_of_a_stranger_is_refused() -> None:
    with pytest.raises(MembershipError, match="another grid"):
        open_placed(signed_by("me", placed(*SET)), root=bytes(32), now_s=None)


def in_order(app: AppId) -> list[Candidate]:
    everybody = {each.node: each for each in (ME, *OTHERS)}
    return [everybody[each] for each in closest_set(app_key(app), everybody, k=3)]


def test_a_node_takes_what_names_it_first_and_what_it_may_keep() -> None:
    first, second, third = in_order(placed().app)
    good = placed(first.node, second.node, third.node)
    assert not fault_of(good, ME.node, me=first)
    assert not fault_of(good, ME.node, me=second)  # the others may let it begin, where the first is gone
    alone = placed(first.node, second.node)
    assert fault_of(alone, ME.node, me=second) == "it is to live on another node"
    unwilling = evolve(first, record=evolve(first.record, coordinates=False))
    assert "was started with --no-coordinate" in fault_of(good, ME.node, me=unwilling)
    crooked = placed(first.node, third.node, second.node)
    assert "order of distance" in fault_of(crooked, ME.node, me=first)


def test_a_local_one_may_begin_with_the_node_that_signed_it_and_with_no_other() -> None:
    first, second, third = in_order(placed(of=LOCAL).app)
    own = placed(third.node, first.node, second.node, of=LOCAL)
    assert not fault_of(own, third.node, me=third)
    assert "order of distance" in fault_of(own, second.node, me=third)
