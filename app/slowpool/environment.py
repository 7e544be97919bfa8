"""The variables that are set, whether they are settings or not."""

from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from slowpool.config import Config


def in_environment() -> dict[str, str]:
    """All variables of the environment that are not empty, by their names in upper case."""
    return {name.upper(): value for name, value in EnvSettingsSource(Config).env_vars.items() if value}


def in_file() -> dict[str, str]:
    """All variables of the file ``.env`` that are not empty, by their names as written there."""
    source = DotEnvSettingsSource(Config, case_sensitive=True)
    return {name: value for name, value in source.env_vars.items() if value}
