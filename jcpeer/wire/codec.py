"""Values to bytes and back: msgpack of attrs classes through cattrs. Malformed bytes stop here.

A frame on a stream is a length (4 bytes, big-endian) and a packed pair [class name, fields]. Fields at their default
are left out, unknown fields are ignored, and a value of the wrong type is a `RemoteProtocolError`: nothing is coerced.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import attrs
import msgpack
from cattrs.preconf.msgpack import MsgpackConverter
from cattrs.preconf.msgpack import make_converter as make_msgpack_converter

from jcpeer.errors import LocalProtocolError, RemoteProtocolError
from jcpeer.wire import messages, peer, requests

T = TypeVar("T")

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""A longer frame is refused before it is read: batches are cut far below it, bulk data has its own streams."""

HEADER_BYTES = 4


def _strict(kind: type) -> Callable[[Any, Any], Any]:
    """A hook that takes a value of exactly this type and refuses all others."""

    def structure(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
        return value

    return structure


def _structure_float(value: Any, _: Any) -> float:
    if type(value) not in (float, int):
        raise TypeError(f"expected a number, got {type(value).__name__}")
    if value != value:
        raise TypeError("expected a number, got NaN")  # with which nothing can be compared or sorted
    return float(value)


def _is_homogeneous_tuple(kind: Any) -> bool:
    return typing.get_origin(kind) is tuple and typing.get_args(kind)[-1] is Ellipsis


def _structure_tuple_factory(converter: MsgpackConverter, kind: Any) -> Callable[[Any, Any], Any]:
    """Takes a packed list only; by itself cattrs would make a tuple of characters from a string."""
    element = typing.get_args(kind)[0]
    structure_element = converter.get_structure_hook(element)

    def structure(value: Any, _: Any) -> Any:
        if type(value) is not list:
            raise TypeError(f"expected a list, got {type(value).__name__}")
        return tuple([structure_element(each, element) for each in value])

    return structure


def _has_defaults_only(kind: Any) -> bool:
    return attrs.has(kind) and all(each.default is not attrs.NOTHING for each in attrs.fields(kind))


def _structure_dict_factory(converter: MsgpackConverter, kind: Any) -> Callable[[Any, Any], Any]:
    """Takes a mapping only; by itself cattrs would find in a text or a list that no field is there, and be content."""
    structure_fields = converter.gen_structure_attrs_fromdict(kind)

    def structure(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise TypeError(f"expected a mapping, got {type(value).__name__}")
        return structure_fields(value, kind)

    return structure


def _is_attrs_union(kind: Any) -> bool:
    if typing.get_origin(kind) not in (types.UnionType, typing.Union):
        return False
    members = [each for each in typing.get_args(kind) if each is not types.NoneType]
    return len(members) > 1 and all(attrs.has(each) for each in members)


def _tagged_union(converter: MsgpackConverter) -> None:
    """Unions of attrs classes travel as [class name, fields]; None, where it is a member, as nil."""

    def unstructure(value: Any) -> Any:
        if value is None:
            return None
        return [type(value).__name__, converter.unstructure(value, type(value))]

    def structure_factory(union: Any) -> Callable[[Any, Any], Any]:
        by_name = {each.__name__: each for each in typing.get_args(union) if each is not types.NoneType}
        optional = types.NoneType in typing.get_args(union)

        def structure(packed: Any, _: Any) -> Any:
            if packed is None and optional:
                return None
            if type(packed) is not list or len(packed) != 2:
                raise TypeError("expected a pair [class name, fields]")
            kind = by_name.get(packed[0]) if type(packed[0]) is str else None
            if kind is None:
                raise TypeError(f"unknown kind {packed[0]!r:.40}")
            return converter.structure(packed[1], kind)

        return structure

    converter.register_unstructure_hook_func(_is_attrs_union, unstructure)
    converter.register_structure_hook_factory(_is_attrs_union)(structure_factory)


@functools.cache
def _converter() -> MsgpackConverter:
    converter = make_msgpack_converter(omit_if_default=True, detailed_validation=False)
    for kind in (int, str, bytes, bool):
        converter.register_structure_hook(kind, _strict(kind))
    converter.register_structure_hook(float, _structure_float)
    _tagged_union(converter)
    converter.register_structure_hook_factory(_has_defaults_only)(functools.partial(_structure_dict_factory, converter))
    converter.register_structure_hook_factory(_is_homogeneous_tuple)(
        functools.partial(_structure_tuple_factory, converter)
    )
    return converter


def pack(value: object, kind: Any | None = None) -> bytes:
    """The packed form of an attrs value, without its class name; `kind` is given where it is a union.

    Raises:
        LocalProtocolError: something in it cannot travel: a text that is no Unicode, a number beyond 64 bits.
    """
    return _pack_plain(_converter().unstructure(value, kind or type(value)), value)


def _pack_plain(plain: object, value: object) -> bytes:
    try:
        return typing.cast(bytes, msgpack.packb(plain, use_bin_type=True))
    except (UnicodeEncodeError, OverflowError) as error:
        raise LocalProtocolError(f"a {type(value).__name__} cannot be packed: {error}") from error


def unpack(data: bytes, kind: type[T]) -> T:
    """The value of this class (or union) that `pack` made.

    Raises:
        RemoteProtocolError: the bytes are not msgpack, or not of that class.
    """
    try:
        return _converter().structure(_unpack_plain(data), kind)
    except RemoteProtocolError:
        raise
    except Exception as error:  # cattrs raises many types; whatever it is, the bytes were wrong
        raise RemoteProtocolError(f"malformed {getattr(kind, '__name__', kind)}: {error}") from error


def packed_field(data: bytes, name: str) -> bytes:
    """One field of a packed value, byte for byte as its packer has it: what this version does not know is still in it.

    Raises:
        RemoteProtocolError: the bytes are not a packed value with that field.
    """
    plain = _unpack_plain(data)
    if type(plain) is not dict or name not in plain:
        raise RemoteProtocolError(f"a packed value without its {name}")
    return _pack_plain(plain[name], plain)


def _unpack_plain(data: bytes) -> object:
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False)
    except Exception as error:  # msgpack raises ValueError, its own types, RecursionError by depth
        raise RemoteProtocolError(f"not msgpack: {error}") from error


def _by_name(*unions: Any) -> dict[str, type]:
    return {kind.__name__: kind for union in unions for kind in typing.get_args(union)}


PEER_KINDS = _by_name(peer.PeerMessage) | {"Hello": messages.Hello, "Turned": messages.Turned}
CLIENT_KINDS = {"Request": requests.Request, "Abandon": requests.Abandon, "Reply": requests.Reply}


def encode(message: object) -> bytes:
    """A whole frame, its length included.

    Raises:
        LocalProtocolError: the frame would be longer than any reader accepts, or something in it cannot travel.
    """
    body = _pack_plain([type(message).__name__, _converter().unstructure(message, type(message))], message)
    if len(body) > FRAME_BYTES_MAX:
        raise LocalProtocolError(f"a {type(message).__name__} of {len(body)} bytes is over the frame limit")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def decode(body: bytes, kinds: dict[str, type]) -> Any:
    """The message in a frame's body, which must be of one of these classes.

    Raises:
        RemoteProtocolError: anything else.
    """
    packed = _unpack_plain(body)
    if type(packed) is not list or len(packed) != 2 or type(packed[0]) is not str:
        raise RemoteProtocolError("a frame is not a pair [class name, fields]")
    kind = kinds.get(packed[0])
    if kind is None:
        raise RemoteProtocolError(f"unexpected message {packed[0]!r:.40}")
    try:
        return _converter().structure(packed[1], kind)
    except Exception as error:  # see `unpack`
        raise RemoteProtocolError(f"malformed {packed[0]}: {error!r:.200}") from error


class FrameReader:
    """Cuts a byte stream into frame bodies: feed what arrived, take what is whole."""

    def __init__(self, *, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._buffer = bytearray()
        self._frame_bytes_max = frame_bytes_max

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Each body that is now complete.

        Raises:
            RemoteProtocolError: a length is over the limit (checked before its bytes are awaited).
        """
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= HEADER_BYTES:
                length = int.from_bytes(self._buffer[start : start + HEADER_BYTES], "big")
                if length > self._frame_bytes_max:
                    raise RemoteProtocolError(f"a frame of {length} bytes is over the limit")
                end = start + HEADER_BYTES + length
                if len(self._buffer) < end:
                    break
                body = bytes(self._buffer[start + HEADER_BYTES : end])
                start = end
                yield body
        finally:
            del self._buffer[:start]


def to_plain(value: object) -> Any:
    """An attrs value as dictionaries, lists and scalars for JSON; bytes become their length."""
    kind = type(value)
    if attrs.has(kind):
        return {name: to_plain(getattr(value, name)) for name in attrs.fields_dict(kind)}
    if isinstance(value, dict):
        return {str(key): to_plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(each) for each in value]
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return value
