"""The settings that a local run was started with, to notice when they have changed since."""

import contextlib
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from slowpool.config import Config
from slowpool.environment import in_environment, settings_in_file
from slowpool.errors import ConfigError

RUNS = Path(__file__).resolve().parents[2] / ".run"

NOTED = "settings.json"
"""The file in the folder of a run that has its settings."""


def run_dir(config: Config) -> Path:
    """Where a local run keeps supervisor's socket, what nginx is configured from, and accepted jobs."""
    return RUNS / str(config.http_port)


def set_in_shell(config: Config) -> dict[str, str]:
    """The settings that a local run has neither by default nor from its ``.env``, by their variables."""
    noted = _noted(run_dir(config))
    file = noted["file"] if noted else settings_in_file()
    return {
        name.upper(): _text(value)
        for name, value in config.model_dump().items()
        if file.get(name.upper(), str(Config.model_fields[name].default)) not in (str(value), _text(value))
    }


@dataclass(frozen=True)
class Run:
    """A run of ``./deploy/local``.

    ``settings`` are the variables of all settings that it has, ``file`` those that ``.env`` had then.
    """

    folder: Path
    settings: dict[str, str]
    file: dict[str, str]

    @classmethod
    def note(cls, folder: Path, config: Config) -> None:
        """Write the settings to a run's folder, readable by its user only."""
        content = {"settings": config.environ(), "file": settings_in_file()}
        file = os.open(folder / NOTED, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "w") as stream:
            json.dump(content, stream)

    @classmethod
    def find(cls, config: Config) -> Self | None:
        """The run with these settings' ``HTTP_PORT``, or the only one if ``.env`` has had another then."""
        if run := cls._read(run_dir(config)):
            return run
        if "HTTP_PORT" in in_environment():
            return None
        runs = cls._all()
        return runs[0] if len(runs) == 1 and "HTTP_PORT" in runs[0].changes(config) else None

    @classmethod
    def others(cls) -> str:
        """Where ``find`` has found none: the runs that may be meant, one line; empty without any."""
        if "HTTP_PORT" in in_environment():
            return ""
        ports = " or ".join(sorted(run.folder.name for run in cls._all()))
        return f"./deploy/local runs with another HTTP_PORT: set HTTP_PORT to {ports}" if ports else ""

    @classmethod
    def _all(cls) -> list[Self]:
        return [run for folder in RUNS.glob("*") if (run := cls._read(folder))]

    @classmethod
    def _read(cls, folder: Path) -> Self | None:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(f"{folder}/supervisor.sock")
        except OSError:
            return None
        # An older release wrote none; its settings are taken to be the current ones.
        noted = _noted(folder) or {"settings": {}, "file": {}}
        return cls(folder, noted["settings"], noted["file"])

    @property
    def config(self) -> Config:
        """The settings that it has. Raises ConfigError when they are not valid here and now."""
        try:
            return Config.model_validate({name.lower(): value for name, value in self.settings.items()})
        except ValidationError as error:
            raise ConfigError(
                "the settings of the running ./deploy/local are not valid any more; restart it"
            ) from error

    def changes(self, config: Config) -> dict[str, tuple[str, str]]:
        """Name -> its value and that of ``config``, the settings of now.

        A variable that was set only in the environment in which it was started has not changed.
        """
        environment, file = in_environment(), settings_in_file()
        then, now = self.config.model_dump(), config.model_dump()
        return {
            name.upper(): (_text(then[name]), _text(now[name]))
            for name in now
            if (name.upper() in environment or file.get(name.upper()) != self.file.get(name.upper()))
            and then[name] != now[name]
        }

    def stale(self, config: Config) -> str:
        """What has changed and what to do about it, one line; empty when nothing has."""
        changes = [f"{name}={old} (now: {new})" for name, (old, new) in self.changes(config).items()]
        if not changes:
            return ""
        listed = ", ".join(changes)
        return f"settings differ from those that ./deploy/local was started with, restart it: {listed}"


def _noted(folder: Path) -> dict[str, dict[str, str]] | None:
    """The settings in a run's folder; None if they are not there or cannot be read."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        content = json.loads((folder / NOTED).read_text())
        return {"settings": content["settings"], "file": content["file"]}
    return None


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float | bool) else str(value)
