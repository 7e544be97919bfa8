"""One browser for all tests of pages that share a system."""

from tests.support.browser import browser  # noqa: F401
