"""Applications that the tests serve through ``ROUTES``."""
