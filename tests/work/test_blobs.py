"""The blob store: what is held, what goes first, what survives a restart."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from jcpeer.application.task import INLINE_BYTES_MAX, BlobRef
from jcpeer.errors import RemoteProtocolError, StorageError
from jcpeer.ids import AppId, Digest, digest_of
from jcpeer.work.blobs import DELETED_AT_ONCE_BYTES_MAX, ENTRY_BYTES, BlobStore

APP = AppId("a" * 40)
OTHER = AppId("b" * 40)
LARGE = INLINE_BYTES_MAX + 1


def large(letter: str) -> bytes:
    return letter.encode() * LARGE


def small(letter: str) -> bytes:
    return letter.encode() * (1000 - ENTRY_BYTES)


def check(store: BlobStore) -> None:
    store._memory.check()
    store._files.check()


def held(store: BlobStore, *contents: bytes) -> list[bool]:
    return [store.has(digest_of(each)) for each in contents]


def test_small_blob_is_given_as_bytes_and_large_one_as_a_private_read_only_file(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, bytes_max=10**9)
    assert store.content(store.put(b"hello").digest) == b"hello"
    path = store.content(store.put(large("x")).digest)
    assert isinstance(path, Path)
    assert path.read_bytes() == large("x")
    assert path.stat().st_mode & 0o777 == 0o400
    assert path.parent.name == digest_of(large("x"))[:2]
    assert store.content(digest_of(b"never")) is None


def test_without_a_directory_large_blobs_are_bytes_too() -> None:
    store = BlobStore(None, bytes_max=10**9)
    assert store.content(store.put(large("x")).digest) == large("x")


@pytest.mark.parametrize("on_disk", [True, False])
def test_least_recently_used_large_blob_goes_first_and_a_pinned_one_never(tmp_path: Path, on_disk: bool) -> None:
    store = BlobStore(tmp_path if on_disk else None, bytes_max=3 * (LARGE + ENTRY_BYTES))
    a, b, c, d, e = (large(letter) for letter in "abcde")
    store.pin(APP, [digest_of(a)])
    for content in (a, b, c):
        store.put(content)
    store.content(digest_of(b))
    store.put(d)
    assert held(store, a, b, c, d) == [True, True, False, True]
    store.release(APP)
    store.put(e)
    assert held(store, a, b, d, e) == [True, False, True, True]  # released: as if just used
    check(store)


def test_pinned_blobs_alone_may_exceed_the_limit_and_the_store_says_so(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, bytes_max=LARGE)
    contents = [large(letter) for letter in "abc"]
    store.pin(APP, map(digest_of, contents))
    for content in contents:
        store.put(content)
    assert held(store, *contents) == [True, True, True]
    assert "running applications" in store.notices()[0]
    store.release(APP)
    assert held(store, *contents).count(True) == 1
    assert store.notices() == ()


def test_small_blobs_leave_memory_by_last_use_and_pinned_ones_spill_to_disk(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, bytes_max=10**9, memory_bytes_max=2000)
    a, b, c, d = (small(letter) for letter in "abcd")
    for content in (a, b, c):
        store.put(content)
    assert held(store, a, b, c) == [False, True, True]
    store.pin(APP, [digest_of(each) for each in (b, c, d)])
    store.put(d)
    assert len(store._memory) == 2
    assert [store.content(digest_of(each)) for each in (b, c, d)] == [b, c, d]
    check(store)


def test_drop_deletes_what_no_application_pins(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, bytes_max=10**9)
    a, b, c = store.put(large("a")), store.put(large("b")), store.put(b"c")
    store.pin(APP, [a.digest, b.digest])
    store.pin(OTHER, [b.digest])
    store.release(APP)
    store.drop([a.digest, b.digest, c.digest, Digest("0" * 64)])
    assert [store.has(each.digest) for each in (a, b, c)] == [False, True, False]
    store.release(OTHER, keep=[b.digest])
    store.drop([b.digest])
    assert store.has(b.digest)
    check(store)


def test_a_large_file_is_deleted_by_and_by_and_its_place_is_free_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later: list[Callable[[], object]] = []
    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", lambda do, deliver: later.append(do))
    store = BlobStore(tmp_path, bytes_max=10**9)
    content = bytes(DELETED_AT_ONCE_BYTES_MAX + 1)
    for held_again in (False, True):
        blob = store.put(content)
        store.drop([blob.digest])
        assert not store.has(blob.digest)
        if held_again:
            store.put(content)
        assert list((tmp_path / "temporary").iterdir())
        later.pop()()
        assert not list((tmp_path / "temporary").iterdir())
        assert store.has(blob.digest) is held_again
    path = store.content(blob.digest)
    assert isinstance(path, Path)
    assert path.stat().st_size == len(content)


async def test_file_is_adopted_and_gone_from_its_place(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store", bytes_max=10**9)
    for content in (large("x"), b"small"):
        output = tmp_path / "output"
        output.write_bytes(content)
        assert await store.adopt(output) == BlobRef(digest_of(content), len(content))
        assert not output.exists()
        assert store.has(digest_of(content))
    with pytest.raises(StorageError, match="not a file"):
        await store.adopt(tmp_path)


async def test_what_a_symbolic_link_names_is_copied_not_moved(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store", bytes_max=10**9)
    (tmp_path / "target").write_bytes(large("x"))
    (tmp_path / "output").symlink_to("target")
    blob = await store.adopt(tmp_path / "output")
    path = store.content(blob.digest)
    assert isinstance(path, Path)
    assert not path.is_symlink()
    assert (tmp_path / "target").read_bytes() == large("x")


async def test_received_bytes_become_a_blob_only_if_they_are_what_the_digest_says(tmp_path: Path) -> None:
    for store in (BlobStore(tmp_path, bytes_max=10**9), BlobStore(None, bytes_max=10**9)):
        blob = BlobRef(digest_of(large("x")), LARGE)
        with await store.receiving(blob) as partial:
            await partial.write(large("y"))
            with pytest.raises(RemoteProtocolError, match="digest"):
                partial.finish()
            assert partial.offset == 0
            await partial.write(large("x")[:-1])
            with pytest.raises(RemoteProtocolError, match="more"):
                await partial.write(b"xx")
            await partial.write(large("x"))
            partial.finish()
        assert store.has(blob.digest)
        with pytest.raises(RemoteProtocolError, match="not the name"):
            await store.receiving(BlobRef(Digest("../../../etc/passwd".ljust(64, "0")), LARGE))


async def test_reception_that_broke_off_is_resumed_even_after_a_restart(tmp_path: Path) -> None:
    content = large("x")[:-10] + b"0123456789"
    blob = BlobRef(digest_of(content), LARGE)
    with await BlobStore(tmp_path, bytes_max=10**9).receiving(blob) as partial:
        await partial.write(content[:-5])
    store = BlobStore(tmp_path, bytes_max=10**9)
    assert not store.has(blob.digest)
    with await store.receiving(blob) as partial, await store.receiving(blob) as beside:
        assert (partial.offset, beside.offset) == (LARGE - 5, 0)  # two never write into one file
        await beside.write(content)
        await partial.write(content[-5:])
        partial.finish()
        beside.finish()
    path = store.content(blob.digest)
    assert isinstance(path, Path)
    assert path.read_bytes() == content
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == [path.name]


def test_restart_finds_files_in_order_of_use_and_removes_torn_ones(tmp_path: Path) -> None:
    earlier = BlobStore(tmp_path, bytes_max=10**9)
    a, b, c = (earlier.put(large(letter)) for letter in "abc")
    torn = earlier.content(c.digest)
    assert earlier.content(a.digest)  # now b was not used for longest
    assert isinstance(torn, Path)
    torn.chmod(0o600)
    torn.write_bytes(b"half")
    store = BlobStore(tmp_path, bytes_max=2 * LARGE)
    assert [store.has(each.digest) for each in (a, b, c)] == [True, True, False]
    assert not torn.exists()
    store.put(large("d"))
    assert [store.has(each.digest) for each in (a, b)] == [True, False]


def test_pins_set_after_a_restart_protect_what_is_over_a_lowered_limit(tmp_path: Path) -> None:
    blobs = [BlobStore(tmp_path, bytes_max=10**9).put(large(letter)) for letter in "abc"]
    store = BlobStore(tmp_path, bytes_max=LARGE)
    store.pin(APP, [blobs[0].digest])
    store.trim()
    assert [store.has(each.digest) for each in blobs] == [True, False, False]


def test_file_deleted_or_damaged_behind_the_store_is_no_longer_held(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, bytes_max=10**9, memory_bytes_max=0)
    blob, spilled = store.put(large("x")), BlobRef(digest_of(b"small"), 5)
    store.pin(APP, [spilled.digest])
    store.put(b"small")
    store.put(b"other")
    for file in tmp_path.rglob("*.*"):
        if file.name.startswith(spilled.digest):
            file.chmod(0o600)
            file.write_bytes(b"smell")
        else:
            file.unlink()
    assert store.content(spilled.digest) is None
    assert store.content(blob.digest) is None
    assert not store.has(blob.digest)


def test_full_disk_is_one_clear_line_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BlobStore(tmp_path, bytes_max=10**9)

    def refuse(path: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StorageError, match="no space left for blobs"):
        store.put(large("x"))
    assert not [each for each in tmp_path.rglob("*") if each.is_file()]
    assert not store.has(digest_of(large("x")))


def test_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(StorageError, match=str(tmp_path / "store")):
        BlobStore(tmp_path / "store", bytes_max=1)
