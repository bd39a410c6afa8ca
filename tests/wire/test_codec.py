"""Whatever can be said arrives as it was said, and whatever else arrives is refused in one way."""

from __future__ import annotations

import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, NewType

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jcpeer.application.manifest import Batch, Placed, Seal
from jcpeer.application.task import Call, Task
from jcpeer.errors import LocalProtocolError, RemoteProtocolError
from jcpeer.ids import TaskId
from jcpeer.values import Value, evolve, field_names
from jcpeer.wire import facts, requests, streams
from jcpeer.wire.codec import (
    CLIENT_KINDS,
    FRAME_BYTES_MAX,
    HEADER_BYTES,
    PEER_KINDS,
    FrameReader,
    decode,
    encode,
    pack,
    to_plain,
    unpack,
)
from jcpeer.wire.messages import Answer, Ask, Goodbye, Heartbeat, Hello, NodeRecord

FRAMED: dict[str, dict[str, type]] = {
    "peer": PEER_KINDS,
    "client": CLIENT_KINDS,
    "stream opening": streams.OPENING_KINDS,
    "stream reply": streams.REPLY_KINDS,
}
EVERY_FRAME = [(kinds, kind) for kinds in FRAMED.values() for kind in kinds.values()]
EVERY_BODY = [
    each
    for union in (requests.RequestBody, requests.HomeRequest, requests.ReplyBody)
    for each in typing.get_args(union)
]
EVERY_FACT = [*typing.get_args(facts.Fact)]
PACKED = [*EVERY_BODY, *EVERY_FACT, facts.Entry, Placed, Batch, Seal]

FEW = settings(max_examples=10)
"""For a test that runs once a class."""

_SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(min_value=-1e300, allow_nan=False),
    bool: st.booleans(),
    str: st.text(max_size=20),
    bytes: st.binary(max_size=50),
    types.NoneType: st.none(),
}


@functools.cache
def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that may stand in a message."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    if isinstance(kind, NewType):
        return values_of(kind.__supertype__)
    if isinstance(kind, type) and (names := field_names(kind)):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{name: values_of(hints[name]) for name in names})
    if isinstance(kind, type) and issubclass(kind, Value):
        return st.builds(kind)
    arguments = typing.get_args(kind)
    match typing.get_origin(kind):
        case typing.Literal:
            return st.sampled_from(arguments)
        case types.UnionType | typing.Union:
            return st.one_of([values_of(each) for each in arguments])
        case origin if origin is tuple:
            assert arguments[-1] is Ellipsis
            return st.lists(values_of(arguments[0]), max_size=3).map(tuple)
        case origin if origin is Mapping or origin.__name__ == "Mapping":
            return st.dictionaries(values_of(arguments[0]), values_of(arguments[1]), max_size=3)
        case _:
            raise NotImplementedError(f"{kind} is new in a message: say how values of it look")


def body_of(frame: bytes) -> bytes:
    assert int.from_bytes(frame[:HEADER_BYTES], "big") == len(frame) - HEADER_BYTES
    return frame[HEADER_BYTES:]


def decoded_or_refused(body: bytes, kinds: dict[str, type]) -> object:
    """The message, or None where it was refused; any other exception is the failure of a test."""
    try:
        return typing.cast(object, decode(body, kinds))
    except RemoteProtocolError:
        return None


# --- what is said arrives


@pytest.mark.parametrize(("kinds", "kind"), EVERY_FRAME, ids=lambda each: getattr(each, "__name__", ""))
@FEW
@given(data=st.data())
def test_every_frame_comes_back_as_it_was(kinds: dict[str, type], kind: type, data: st.DataObject) -> None:
    message = data.draw(values_of(kind))
    assert decode(body_of(encode(message)), kinds) == message


@pytest.mark.parametrize("kind", PACKED)
@FEW
@given(data=st.data())
def test_every_body_and_fact_comes_back_as_it_was(kind: type, data: st.DataObject) -> None:
    value = data.draw(values_of(kind))
    assert unpack(pack(value), kind) == value


@given(values_of(facts.Fact))
def test_fact_is_told_from_others_by_its_name(fact: facts.Fact) -> None:
    assert unpack(pack(fact), facts.Fact) == fact  # type: ignore[arg-type]  # a union is no class


@given(values_of(facts.Entry))
def test_same_value_is_packed_into_the_same_bytes_again(entry: facts.Entry) -> None:
    assert pack(unpack(pack(entry), facts.Entry)) == pack(entry)


def test_a_value_is_the_list_of_its_fields() -> None:
    assert msgpack.unpackb(pack(Ask(1, b"?")), raw=False) == [1, b"?"]
    assert msgpack.unpackb(pack(facts.Ended("ok")), raw=False) == ["Ended", "ok"]


def test_field_of_a_later_version_is_ignored() -> None:
    assert decode(msgpack.packb(["Ask", [1, b"?", ["very", "urgent"]]]), PEER_KINDS) == Ask(1, b"?")


def test_fields_that_an_earlier_version_did_not_know_have_their_defaults() -> None:
    assert decode(msgpack.packb(["Goodbye", []]), PEER_KINDS) == Goodbye()


def test_every_field_that_may_be_missing_comes_after_those_that_may_not() -> None:
    """So that fields can be added at the end of any class."""
    for kinds in FRAMED.values():
        for kind in kinds.values():
            needed = [each.required for each in msgspec.structs.fields(kind)]
            assert needed == sorted(needed, reverse=True), kind


def test_message_too_long_for_any_reader_is_our_bug() -> None:
    with pytest.raises(LocalProtocolError, match="over the frame limit"):
        encode(Answer(1, bytes(FRAME_BYTES_MAX), True))


@pytest.mark.parametrize("request_id", [2**64, -(2**63) - 1])
def test_number_that_cannot_travel_is_our_bug(request_id: int) -> None:
    with pytest.raises(LocalProtocolError, match="a Ask cannot be packed"):
        encode(Ask(request_id, b"?"))


def test_text_that_cannot_travel_is_our_bug() -> None:
    with pytest.raises(LocalProtocolError, match="cannot be packed"):
        pack(requests.Refusal("invalid", "no file \udcff"))


# --- what else arrives is refused


@given(st.binary(max_size=200), st.sampled_from([*FRAMED]))
def test_any_bytes_are_refused_and_nothing_else(body: bytes, kinds: str) -> None:
    assert decoded_or_refused(body, FRAMED[kinds]) is None or body


@given(st.binary(max_size=200), st.sampled_from(PACKED))
def test_any_bytes_are_refused_by_every_class(packed: bytes, kind: type) -> None:
    try:
        unpack(packed, kind)
    except RemoteProtocolError:
        return


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(0, 2**32), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize(("kinds", "kind"), EVERY_FRAME, ids=lambda each: getattr(each, "__name__", ""))
@FEW
@given(data=st.data())
def test_fields_of_any_type_give_a_message_of_the_right_types_or_are_refused(
    kinds: dict[str, type], kind: type, data: st.DataObject
) -> None:
    packed = data.draw(st.lists(_PLAIN, max_size=len(field_names(kind)) + 1) | _PLAIN)
    message = decoded_or_refused(msgpack.packb([kind.__name__, packed]), kinds)
    if message is not None:
        assert decode(body_of(encode(message)), kinds) == message or "nan" in repr(message)


@given(data=st.data())
def test_damaged_frame_is_read_or_refused(data: st.DataObject) -> None:
    kinds, kind = data.draw(st.sampled_from(EVERY_FRAME))
    body = bytearray(body_of(encode(data.draw(values_of(kind)))))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    decoded_or_refused(bytes(body), kinds)
    decoded_or_refused(bytes(body[: data.draw(st.integers(0, len(body)))]), kinds)


def _changed(value: Value, fields: dict[str, object]) -> list[object]:
    """Its fields, as they are packed, but for these."""
    plain = msgpack.unpackb(pack(value), raw=False)
    return [fields.get(name, each) for name, each in zip(field_names(type(value)), plain, strict=True)]


RECORD = NodeRecord("n", "a", "u", "h", 1, 1, "idle", 1, 0, 1, 1, 0.5, "3.11")  # type: ignore[arg-type]
WRONG: list[tuple[str, object]] = [
    ("text where bytes belong", ["Ask", [1, "?"]]),
    ("bytes where text belongs", ["Turned", [b"?"]]),
    ("a truth where a number belongs", ["Ask", [True, b"?"]]),
    ("a fraction where a whole number belongs", ["Ask", [1.5, b"?"]]),
    ("digits where a number belongs", ["Ask", ["1", b"?"]]),
    ("a text where a list belongs", ["Hello", _changed(Hello(1, 0, (), "a", 1), {"addresses": "abc"})]),
    ("nothing where something belongs", ["Ask", [None, b"?"]]),
    ("not a number", ["ProbeAnswer", ["a", 1, 0, math.nan]]),
    ("a missing field", ["Ask", [1]]),
    ("a text where fields belong", ["Heartbeat", "text"]),
    ("a mapping where fields belong", ["Heartbeat", {}]),
    ("an unknown name", ["Explode", []]),
    ("a name that is no text", [b"Heartbeat", []]),
    ("a class of ours that is no message", ["NodeRecord", _changed(RECORD, {})]),
    ("three parts", ["Heartbeat", [], 1]),
    ("no pair", {"Heartbeat": []}),
]


@pytest.mark.parametrize("packed", [each for _, each in WRONG], ids=[name for name, _ in WRONG])
def test_nothing_is_coerced(packed: object) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(msgpack.packb(packed), PEER_KINDS)


@pytest.mark.parametrize(
    "wrong",
    [{"state": "asleep"}, {"labels": [["a", "b"]]}, {"labels": {"a": 1}}],
    ids=["a word that is none of those", "a list where a mapping belongs", "a number in a mapping of texts"],
)
def test_nothing_is_coerced_in_what_somebody_signed(wrong: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack(msgpack.packb(_changed(RECORD, wrong)), NodeRecord)


def test_whole_number_may_stand_for_a_fraction() -> None:
    assert unpack(pack(evolve(RECORD, load=2)), NodeRecord) == evolve(RECORD, load=2.0)


def test_message_of_another_conversation_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="unexpected message 'Request'"):
        decode(body_of(encode(requests.Request(1, requests.WhoAreYou()))), PEER_KINDS)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x91" * 100_000,
        b"\x92\xa3Ask" + b"\x81\xa1a" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x92\xa9Heartbeat\x81\x90\x01",
        b"\x92\xa3Ask\xd6\xff\x00\x00\x00\x00",
    ],
    ids=["deep lists", "deep mappings", "long list", "long mapping", "long bytes", "list as a key", "extension"],
)
def test_bomb_is_refused_before_it_goes_off(bomb: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(bomb, PEER_KINDS)
    assert len(str(caught.value)) < 1000, "it is logged, and must not fill the log"


def test_refusal_of_a_large_value_is_a_short_line() -> None:
    for kind, packed in ((facts.Entry, ["x" * 100_000]), (Task, ["t", ["y" * 100_000, "3.11"]])):
        with pytest.raises(RemoteProtocolError) as caught:
            unpack(msgpack.packb(packed), kind)
        assert len(str(caught.value)) < 1000


# --- frames


@given(st.lists(st.binary(max_size=100), max_size=8), st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_frames_are_cut_the_same_however_the_bytes_arrive(bodies: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(len(body).to_bytes(HEADER_BYTES, "big") + body for body in bodies)
    reader = FrameReader()
    found: list[bytes] = []
    position = turn = 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        found += reader.feed(stream[position : position + size])
        position += size
        turn += 1
    assert found == bodies


def test_frame_over_the_limit_is_refused_before_its_bytes_arrive() -> None:
    with pytest.raises(RemoteProtocolError, match="over the limit"):
        list(FrameReader(frame_bytes_max=10).feed((11).to_bytes(HEADER_BYTES, "big")))


def test_frames_before_a_bad_one_are_given_first() -> None:
    reader = FrameReader(frame_bytes_max=10)
    bodies = reader.feed(encode(Heartbeat())[:0] + b"\0\0\0\1a\0\0\0\2bc\xff\xff\xff\xff")
    assert [next(bodies), next(bodies)] == [b"a", b"bc"]
    with pytest.raises(RemoteProtocolError):
        next(bodies)


# --- for people


@given(values_of(requests.Reply))
def test_plain_form_of_any_reply_has_no_bytes_and_no_classes(reply: requests.Reply) -> None:
    def check(value: object) -> None:
        match value:
            case dict():
                assert all(type(key) is str for key in value)
                for each in value.values():
                    check(each)
            case list():
                for each in value:
                    check(each)
            case _:
                assert value is None or type(value) in (str, int, float, bool)

    check(to_plain(reply))


def test_plain_form_of_what_has_no_fields_is_empty() -> None:
    assert to_plain(requests.Reply(1, requests.Done(), last=True))["body"] == {}


def test_plain_form_keeps_the_names_of_fields() -> None:
    plain = to_plain(Task(TaskId("t"), Call("3.11")))
    assert (plain["id"], plain["work"]) == ("t", {"python": "3.11", "function_name": ""})
