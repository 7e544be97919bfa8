"""Hosts the user's application: everything that slowpool does for a request stands around it.

load.py       APP: finds the application, or calls what makes it
host.py       gives each request to the application, or to the system routes
exchange.py   one request and its answer, as its connection sees them
templates.py  the route template of a request
learned.py    the routes that have blocked a fast instance
jobs.py       slowpool.run
problems.py   slowpool's own errors as application/problem+json
"""
