"""A package beside ``app/``, what it needs, and its variables, in a container."""

from functools import partial
from pathlib import Path

import pytest

from tests.support.basics import wait_until
from tests.support.checkout import copy_checkout
from tests.support.client import request
from tests.support.compose import Compose, address
from tests.support.engine import needs_engine
from tests.support.system import is_ready
from tests.support.user_project import APP, LEFT_TO_FILE, check_answers, put_project_into


@needs_engine
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_container_has_the_package_what_it_needs_and_every_variable_of_env(tmp_path: Path) -> None:
    copy_checkout(tmp_path)
    put_project_into(tmp_path)
    with Compose(folder=tmp_path, left_to_file=LEFT_TO_FILE, APP=APP) as project:
        project("up", "--build", "--detach", "--no-deps", "fast")
        (container,) = project.containers("fast")
        wait_until(lambda: is_ready(8001, address(container)), 60, "an instance to be ready")
        check_answers(partial(request, 8001, address=address(container)))
