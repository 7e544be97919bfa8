"""The variables that are set, whether they are settings or not."""

import os

from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from slowpool.config import Config, env_file


def in_environment() -> dict[str, str]:
    """All variables of the environment that are not empty, by their names in upper case."""
    return {name.upper(): value for name, value in EnvSettingsSource(Config).env_vars.items() if value}


def in_file() -> dict[str, str]:
    """All variables of the file ``.env``, by their names as written there."""
    source = DotEnvSettingsSource(Config, env_file(), case_sensitive=True, env_ignore_empty=False)
    return {name: value for name, value in source.env_vars.items() if value is not None}


def settings_in_file() -> dict[str, str]:
    """The settings of ``.env`` that are not empty, by their names in upper case."""
    return {
        name.upper(): value
        for name, value in in_file().items()
        if value and name.lower() in Config.model_fields
    }


def settings() -> dict[str, str]:
    """Each setting that is set, by its name in upper case, as it is written."""
    known = {name: value for name, value in in_environment().items() if name.lower() in Config.model_fields}
    return {**settings_in_file(), **known}


def export_file() -> None:
    """Put the variables of ``.env`` into the environment, for the application, where they are not set."""
    for name, value in in_file().items():
        os.environ.setdefault(name, value)
