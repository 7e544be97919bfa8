"""The base classes of an application's handlers."""

from app.handlers.base import Handler, PageHandler, SlowHandler

__all__ = ["Handler", "PageHandler", "SlowHandler"]
