"""What nginx and an instance tell each other about a request."""

from slowpool.config import Pool

# nginx sets or clears these for each request, and the application sees none of them.
PUBLIC = "X-Slowpool-Public"  # the request came through the public server
ELAPSED = "X-Slowpool-Elapsed"  # seconds since the first instance received the request, which it sent on
STREAMED = "X-Slowpool-Streamed"  # nginx does not keep the body, so it cannot be sent to the slow pool
ASKS = "X-Slowpool-Asks"  # what nginx can still ask the slow instances for, see Asks

# nginx logs these (nginx/http/logging.conf), and the client sees none of them.
ROUTE = "X-Slowpool-Route"
TIMES = {"queue_seconds": "X-Slowpool-Queue-Seconds", "run_seconds": "X-Slowpool-Run-Seconds"}

HANDED_OVER = "@handed_over"
"""nginx's location for requests that are handed over to the slow pool."""

ASK = "@ask_"
"""With what is asked for: nginx's location for requests that another slow instance may take."""

ASKED = "@asked"
"""nginx's location for requests that this instance takes after an ask."""

ELSEWHERE = {pool: f"@{pool}_elsewhere" for pool in Pool}
"""nginx's locations for WebSockets that reach a draining instance: another one of the pool takes them."""
