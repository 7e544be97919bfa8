"""load: the application that ``APP`` names."""

import contextlib
import importlib
import inspect
import logging
import sys
import traceback
from collections.abc import AsyncIterator
from typing import Any

from tornado.web import Application

from slowpool.errors import AppError, ConfigError

log = logging.getLogger("slowpool")


async def load(app: str) -> Application:
    """The ``module:attribute``, or what it returns when it is a function; it is called without arguments.

    Raises ConfigError when it is no application, and AppError when it raises an exception.
    """
    module_name, _, attribute = app.partition(":")
    with _errors_named(app, "cannot be loaded"), _without_arguments():
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise  # a module that the application imports
            raise ConfigError(
                f"APP={app}: there is no module {error.name!r}; put your package in the working directory or "
                "install it with pip"
            ) from error
        for name in attribute.split("."):
            if not hasattr(found, name):
                raise ConfigError(f"APP={app}: {module_name} has no attribute {attribute!r}")
            found = getattr(found, name)
        if not isinstance(found, Application):
            if not callable(found):
                raise _no_application(app, found)
            found = found()
            if inspect.isawaitable(found):
                found = await found
    if not isinstance(found, Application):
        raise _no_application(app, found)
    return found


@contextlib.asynccontextmanager
async def lifespan(name: str, app: Application) -> AsyncIterator[None]:
    """The application's setting ``lifespan``, a function of the application, as a context.

    Raises AppError, which has ``name``, when entering it raises an exception; one at its end is logged.
    """
    make = app.settings.get("lifespan")
    stack = contextlib.AsyncExitStack()
    if make is not None:
        with _errors_named(name, "has a lifespan that fails"):
            await stack.enter_async_context(make(app))
    try:
        yield
    finally:
        try:
            await stack.aclose()
        except Exception:
            log.exception("the lifespan of APP=%s failed at its end", name)


def _no_application(app: str, found: object) -> ConfigError:
    kind = type(found).__name__
    return ConfigError(
        f"APP={app} must be a tornado.web.Application or a function that returns one, not {kind}"
    )


@contextlib.contextmanager
def _errors_named(app: str, what: str) -> Any:
    """Raise AppError, with the traceback from the user's code on, for any exception but ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        frames = error.__traceback__
        while frames and _is_between(frames.tb_frame.f_code.co_filename):
            frames = frames.tb_next
        text = "".join(traceback.format_exception(type(error), error, frames))
        *_, last = traceback.format_exception_only(error)
        raise AppError(f"APP={app} {what}: {last.strip()}", text) from error


def _is_between(file: str) -> bool:
    """Whether a frame is between this module and the user's."""
    return file.startswith("<frozen importlib") or file in (__file__, importlib.__file__, contextlib.__file__)


@contextlib.contextmanager
def _without_arguments() -> Any:
    """Hide slowpool's own command line from an application that parses its arguments."""
    arguments = sys.argv[1:]
    del sys.argv[1:]
    try:
        yield
    finally:
        sys.argv[1:] = arguments
