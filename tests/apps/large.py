"""An application whose import takes memory."""

MODEL = bytearray(300 * 2**20)


def make_app() -> None: ...
