from contextlib import suppress
from pathlib import Path

import pytest

from jcpeer.client.outputs import landings, place, written_whole
from jcpeer.errors import RequestError, StorageError
from jcpeer.ids import TaskId
from jcpeer.wire.messages import Output
from jcpeer.wire.requests import TaskResult
from tests.client.loaded import blob


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up", ".", "a\0b", "", "link/file"])
def test_a_name_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path)
    with pytest.raises(RequestError, match="is not brought to"):
        place(tmp_path / "here", name)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "out.txt"
    with suppress(TimeoutError), written_whole(path) as draft:
        draft.write(b"half")
        raise TimeoutError
    assert list(path.parent.iterdir()) == []
    with written_whole(path) as draft:
        draft.write(b"whole")
    assert [(each.name, each.read_bytes()) for each in path.parent.iterdir()] == [("out.txt", b"whole")]


def test_a_disk_that_does_not_take_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match=r"file/out\.txt cannot be written"),
        written_whole(tmp_path / "file/out.txt"),
    ):
        pass


def test_a_name_that_two_tasks_left_goes_below_each_task() -> None:
    results = [
        TaskResult(TaskId("a"), (Output("log", blob(b"1")), Output("only", blob(b"2")), Output("@value", blob(b"3")))),
        TaskResult(TaskId("b"), (Output("log", blob(b"4")),)),
    ]
    assert [each.path for each in landings(results)] == ["a/log", "only", "b/log"]
