"""Where a running job is at this moment."""

from slowpool.errors import BadArgument, NotFound
from slowpool.status.handlers import Handler


class StackHandler(Handler):
    """The Python stack of a running job as JSON, the innermost frame first; the job goes on undisturbed.

    ``complete`` is false when the worker did not write all of it in time: it is stopped, or has just died.
    """

    async def get(self) -> None:
        job_id = self.get_query_argument("job", "")
        if not job_id:
            raise BadArgument("which job? Ask for /-/stack?job=ID; the status page has the ids")
        workers = self.application.runtime.workers
        job = next((job for job in workers.running_jobs if job.id == job_id), None)
        if job is None:
            raise NotFound("no job with this id runs in this instance")
        try:
            frames, complete = await workers.stack(job)
        except KeyError:
            raise NotFound("the job has just ended") from None
        self.set_header("Cache-Control", "no-store")
        self.finish(
            {
                "job": job.id,
                "task": job.task,
                "request_id": job.request_id,
                "route": job.route,
                "worker": job.worker_pid,
                "seconds": job.run_seconds,
                "stack": frames,
                "complete": complete,
            }
        )


routes = [(r"/-/stack", StackHandler)]
"""The system routes of this room."""
