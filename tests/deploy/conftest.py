"""deploy/kubernetes, rendered once for the tests of a module."""

from pathlib import Path

import pytest

from tests.support.kubernetes import Json, copy_with_secrets, render_variants


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder, with the files that an operator adds."""
    return copy_with_secrets(tmp_path_factory.mktemp("deploy"))


@pytest.fixture(scope="module")
def rendered(tree: Path) -> dict[str, list[Json]]:
    """Variant -> its objects."""
    return render_variants(tree)
