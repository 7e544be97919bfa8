"""Variables that look like a misspelled setting."""

import difflib
import sys

from slowpool.config import Config
from slowpool.environment import in_environment, in_file

SIMILARITY = 0.86
"""How similar a name must be to that of a setting: of nine characters one may differ."""

OF_OTEL = {f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT" for signal in ("TRACES", "METRICS", "LOGS")}
"""Variables of OpenTelemetry that are similar to a setting."""


FORMER = {"ROUTES": "APP"}
"""Settings of earlier versions -> those that take their place."""


def warn_of_mistyped() -> None:
    """Print a line to stderr for each mistyped setting."""
    for name, setting in mistyped().items():
        print(f"slowpool: {name} is no setting and changes nothing; is {setting} meant?", file=sys.stderr)


def mistyped() -> dict[str, str]:
    """Name -> the setting that was probably meant, of variables that are set and are no settings."""
    settings = [name.upper() for name in Config.model_fields]
    names = {*in_environment(), *map(str.upper, in_file())} - {*settings, *OF_OTEL}
    meant = {name: _meant(name, settings) for name in sorted(names)}
    return {name: setting for name, setting in meant.items() if setting}


def _meant(name: str, settings: list[str]) -> str:
    """The setting that is most similar to the name; empty without one."""
    if name in FORMER:
        return FORMER[name]
    forms = [name + unit for unit in ("_SECONDS", "_BYTES", "_FILE")]
    if name.endswith("Y"):
        forms.append(name[:-1] + "IES")
    if found := [form for form in forms if form in settings]:
        return found[0]
    candidates = [setting for setting in settings if setting[0] == name[0]]
    return next(iter(difflib.get_close_matches(name, candidates, 1, SIMILARITY)), "")
