"""What cannot pass between the two processes is named."""

import threading
from collections.abc import Callable

import pytest

from slowpool.errors import NotPicklable
from tests.apps import zoo
from tests.support.pool import Pool, with_pool


@pytest.mark.parametrize(
    ("task", "args", "text"),
    [
        (lambda: None, (), "define it with def at the top level"),
        (zoo.echoes, (threading.Lock(),), "an argument of echoes, of type _thread.lock"),
        (zoo.returns_what_cannot_be_pickled, (), "the result, of type _thread.lock"),
        (zoo.raises_what_cannot_be_pickled, (), "the exception, of type tests.apps.zoo.ErrorWithALock"),
        (zoo.raises_an_awkward_error, (), "the exception, of type tests.apps.zoo.AwkwardError"),
    ],
)
def test_what_cannot_be_pickled_is_named_with_its_type(
    task: Callable[..., object], args: tuple[object, ...], text: str
) -> None:
    async def scenario(pool: Pool) -> None:
        with pytest.raises(NotPicklable) as raised:
            await pool.run(task, *args)
        assert text in str(raised.value)

    with_pool(scenario)
