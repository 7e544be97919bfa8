"""The gate at which requests to ``tests.apps.controlled`` wait until a test opens it."""

from pathlib import Path
from urllib.parse import quote

from tests.support.basics import wait_until


class Gate:
    """A folder in which requests note that they have arrived, and wait."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def __call__(self, path: str) -> str:
        """The target of a request that waits at this gate."""
        return f"{path}?folder={quote(str(self.folder))}"

    @property
    def entered(self) -> list[int]:
        """The process of each request that has arrived, in order."""
        file = self.folder / "entered"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def wait_for(self, requests: int) -> None:
        """Wait until this many have arrived."""
        wait_until(lambda: len(self.entered) >= requests, what=f"{requests} requests at the gate")

    def open(self) -> None:
        """Let all requests continue."""
        (self.folder / "release").touch()
