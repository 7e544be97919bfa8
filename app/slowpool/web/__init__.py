"""The base classes of an application's handlers."""

from slowpool.web.handlers import Handler, PageHandler, SlowHandler

__all__ = ["Handler", "PageHandler", "SlowHandler"]
