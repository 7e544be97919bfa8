"""One application as a team writes it: plainly for Tornado, with most of what Tornado offers.

    python -m tests.apps.team --port=8888          under plain Tornado
    APP=tests.apps.team:make_app ./deploy/local    under slowpool

Nothing of slowpool is used except ``slowpool.run``, in one handler.
"""

from tests.apps.team.main import make_app

__all__ = ["make_app"]
