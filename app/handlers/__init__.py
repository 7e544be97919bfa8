"""The base classes of an application's handlers."""

from app.handlers.base import Handler, SlowHandler

__all__ = ["Handler", "SlowHandler"]
