"""Hosts the user's application: everything that slowpool does for a request stands around it.

load.py         APP: finds the application, or calls what makes it
host.py         gives each request to a receiver
receiver.py     a request as it arrives, on its way to the application or to the system routes
exchange.py     one request and its answer, as its connection sees them
nginx.py        what nginx and an instance tell each other about a request
templates.py    the route template of a request
jobs.py         slowpool.run and stream
preferences.py  what a client prefers
problems.py     slowpool's own errors as application/problem+json
"""
