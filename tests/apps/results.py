"""Results of all sizes."""


class Traced:
    """Can be referred to weakly."""

    def __init__(self, size: int) -> None:
        self.data = bytes(size)


def block(size: int) -> bytes:
    return bytes(size)


def traced(size: int) -> Traced:
    return Traced(size)


def many_objects(count: int) -> list[tuple[int, str]]:
    return [(number, f"row {number}") for number in range(count)]


def raises_with(size: int) -> None:
    raise ValueError(bytes(size))
