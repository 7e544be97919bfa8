"""The test's end of ``tests.apps.controlled``: sees requests come in, and lets them go on."""

from pathlib import Path
from urllib.parse import quote

from tests.support.basics import wait_until


class Gate:
    """A folder in which requests say that they have come, and wait."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def __call__(self, path: str) -> str:
        """The target of a request that waits at this gate."""
        return f"{path}?folder={quote(str(self.folder))}"

    @property
    def entered(self) -> list[int]:
        """The process of each request that has come, in their order."""
        file = self.folder / "entered"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def wait_for(self, requests: int) -> None:
        """Wait until so many have come."""
        wait_until(lambda: len(self.entered) >= requests, what=f"{requests} requests at the gate")

    def open(self) -> None:
        """Let all go on."""
        (self.folder / "release").touch()
