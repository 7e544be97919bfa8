"""Tornado: the demo's handlers as they are, without slowpool around them.

https://docs.gunicorn.org/en/stable/design.html#tornado-workers
"""

import demo

app = demo.make_app()
