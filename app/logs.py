"""The log: one line for each event on stdout, as JSON or for people."""

import logging
import sys
from typing import TextIO

from pythonjsonlogger.json import JsonFormatter

from app.config import Config, LogFormat

JSON_NAMES = {"levelname": "level", "name": "logger", "exc_info": "exception"}


def set_up(config: Config, pool: str, instance: str, stream: TextIO = sys.stdout) -> None:
    """Log to the stream from now on, in the format and from the level of the settings.

    A line has what its call gives as ``extra``: ``request_id``, ``route``, ``seconds`` and the like.
    """
    handler = logging.StreamHandler(stream)
    if config.log_format is LogFormat.JSON:
        handler.setFormatter(
            JsonFormatter(
                "{levelname}{name}{message}",
                style="{",
                rename_fields=JSON_NAMES,
                static_fields={"pool": pool, "instance": instance},
                timestamp="time",
            )
        )
    else:
        text = f"%(asctime)s %(levelname)s {instance} %(name)s [%(request_id)s] %(message)s"
        handler.setFormatter(logging.Formatter(text, defaults={"request_id": "-"}))
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler])
