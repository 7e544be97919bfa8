"""An application that cannot warm up while the file FAILS is there."""

import os

import slowpool


def make_app() -> None: ...


@slowpool.warm
def model() -> None:
    if os.path.exists(os.environ["FAILS"]):
        raise RuntimeError("on purpose")
