"""Values to bytes and back: msgpack, by msgspec. Malformed bytes stop here.

A frame on a stream is a length (4 bytes, big-endian) and a packed pair [class name, value]. A value is packed as the
list of its fields (`jcpeer.values`), after its class's name where it shares a field with other classes. What is of the
wrong type is a `RemoteProtocolError`: nothing is coerced.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import attrs
import msgspec

from jcpeer.errors import LocalProtocolError, RemoteProtocolError
from jcpeer.values import Value, field_names
from jcpeer.wire import messages, peer, requests

T = TypeVar("T")

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""A longer frame is refused before it is read: batches are cut far below it, bulk data has its own streams."""

HEADER_BYTES = 4

_encode = msgspec.msgpack.Encoder().encode


@functools.cache
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)


_decode_frame = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw]).decode
_decode_fields = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def pack(value: object) -> bytes:
    """The packed form of a value.

    Raises:
        LocalProtocolError: something in it cannot travel: a text that is no Unicode, a number beyond 64 bits.
    """
    try:
        return _encode(value)
    except (UnicodeEncodeError, OverflowError) as error:
        raise LocalProtocolError(f"a {type(value).__name__} cannot be packed: {error}") from error


def unpack(data: bytes, kind: type[T]) -> T:
    """The value of this class, or union of tagged classes, that `pack` made.

    Raises:
        RemoteProtocolError: the bytes are not msgpack, or not of that class.
    """
    found: Callable[[bytes], T] = _unpacker(typing.cast(Any, kind))
    return found(data)


def unpacker(kind: type[T]) -> Callable[[bytes], T]:
    """What `unpack` does for this class; for those who do it a million times, since to find it takes its time, too."""
    decode: Callable[[bytes], T] = _decoder(typing.cast(Any, kind)).decode

    def unpack_it(data: bytes) -> T:
        try:
            return decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RemoteProtocolError(f"malformed {getattr(kind, '__name__', kind)!s:.60}: {error!s:.200}") from error

    return unpack_it


_unpacker: Callable[[Any], Callable[[bytes], Any]] = functools.cache(unpacker)


def packed_field(data: bytes, kind: type[Value], name: str) -> bytes:
    """One field of a packed value, byte for byte as its packer has it: what this version does not know is still in it.

    Raises:
        RemoteProtocolError: the bytes are not a packed value with that field.
    """
    try:
        return bytes(_decode_fields(data)[field_names(kind).index(name)])
    except (msgspec.DecodeError, IndexError, RecursionError) as error:
        raise RemoteProtocolError(f"a packed {kind.__name__} without its {name}") from error


def _by_name(*unions: Any) -> dict[str, type]:
    return {kind.__name__: kind for union in unions for kind in typing.get_args(union)}


PEER_KINDS = _by_name(peer.PeerMessage) | {"Hello": messages.Hello, "Turned": messages.Turned}
CLIENT_KINDS: dict[str, type] = {
    "Request": requests.Request,
    "Abandon": requests.Abandon,
    "Reply": requests.Reply,
}


def encode(message: object) -> bytes:
    """A whole frame, its length included.

    Raises:
        LocalProtocolError: the frame would be longer than any reader accepts, or something in it cannot travel.
    """
    try:
        body = _encode((type(message).__name__, message))
    except (UnicodeEncodeError, OverflowError) as error:
        raise LocalProtocolError(f"a {type(message).__name__} cannot be packed: {error}") from error
    if len(body) > FRAME_BYTES_MAX:
        raise LocalProtocolError(f"a {type(message).__name__} of {len(body)} bytes is over the frame limit")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def decode(body: bytes, kinds: Mapping[str, type]) -> Any:
    """The message in a frame's body, which must be of one of these classes.

    Raises:
        RemoteProtocolError: anything else.
    """
    try:
        name, packed = _decode_frame(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"a frame is not a pair [class name, value]: {error!s:.200}") from error
    kind = kinds.get(name)
    if kind is None:
        raise RemoteProtocolError(f"unexpected message {name!r:.40}")
    try:
        return _decoder(kind).decode(packed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"malformed {name}: {error!s:.200}") from error


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
    """A value as dictionaries, lists and scalars for JSON; bytes become their length."""
    if isinstance(value, Value) or attrs.has(type(value)):
        return {name: to_plain(getattr(value, name)) for name in field_names(type(value))}
    if isinstance(value, dict):
        return {str(key): to_plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(each) for each in value]
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return value
