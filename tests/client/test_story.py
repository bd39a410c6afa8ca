import traceback

import pytest

from jcpeer.client.story import RemoteError, failed_task
from jcpeer.errors import ApplicationFailedError, GraphError


class Unusual(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one, two)


def text_of(error: BaseException) -> str:
    try:
        raise error
    except BaseException:
        return traceback.format_exc()


@pytest.mark.parametrize(
    "error",
    [
        ValueError("two\nlines"),
        KeyError("name"),
        KeyError(3),
        ZeroDivisionError("division by zero"),
        AssertionError(),
        GraphError("of another module: with a colon"),
    ],
)
def test_an_exception_of_a_known_type_is_raised_as_it_was_there(error: Exception) -> None:
    raised = failed_task("t", text_of(error))
    assert type(raised) is type(error)
    assert raised.args == error.args
    assert isinstance(raised.__cause__, RemoteError)
    assert "text_of" in str(raised.__cause__)


def test_the_last_of_chained_exceptions_counts() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise OSError("second") from error
    except OSError:
        text = traceback.format_exc()
    raised = failed_task("t", text)
    assert (type(raised), str(raised)) == (OSError, "second")


@pytest.mark.parametrize("error", [Unusual(1, 2), KeyboardInterrupt()])
def test_an_exception_that_cannot_be_made_again_comes_as_its_traceback(error: BaseException) -> None:
    raised = failed_task("t", text_of(error))
    assert isinstance(raised, RemoteError)
    assert type(error).__name__ in str(raised)


def test_a_failure_without_exception_is_told_as_it_is() -> None:
    raised = failed_task("t", "exit status 3")
    assert isinstance(raised, ApplicationFailedError)
    assert str(raised) == "task t failed: exit status 3"
