"""Alternatives with the same routes and the same work, each used as its documentation shows."""
