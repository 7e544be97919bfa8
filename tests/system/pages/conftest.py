"""One browser for all tests of the status page."""

from tests.support.browser import browser  # noqa: F401
