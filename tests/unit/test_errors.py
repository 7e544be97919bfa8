"""The tree of errors in the docstring of its module."""

import inspect
import re

from slowpool import errors


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn = drawn_tree()
    classes = {
        name: found
        for name, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, errors.SlowpoolError)
    }
    assert drawn.keys() == classes.keys()
    for name, (parent, _) in drawn.items():
        assert parent in [base.__name__ for base in classes[name].__bases__] or not parent, name


def test_the_statuses_in_the_docstring_are_those_of_the_classes() -> None:
    for name, (_, text) in drawn_tree().items():
        found = getattr(errors, name)
        if issubclass(found, errors.RequestError) and found is not errors.RequestError:
            assert text.startswith(str(found.status)), name


def drawn_tree() -> dict[str, tuple[str, str]]:
    """Name -> (its parent, the text beside it), as the module's docstring draws it."""
    tree: dict[str, tuple[str, str]] = {}
    above: list[tuple[int, str]] = []
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines():
        found = re.fullmatch(r"([ │├└─]*)([A-Z][A-Za-z]+)(?:\s{2,}(\S.*))?", line)
        if found:
            depth, name = len(found[1]), found[2]
            above = [entry for entry in above if entry[0] < depth]
            tree[name] = (above[-1][1] if above else "", found[3] or "")
            above.append((depth, name))
    return tree
