"""Applications that the tests serve through ``APP``."""
