"""make_store: the store that JOBS_URL names."""

from pathlib import Path

from slowpool.config import Config, state_dir
from slowpool.jobs.sqlite import SqliteStore
from slowpool.jobs.store import Bounds, Store


def make_store(config: Config) -> Store:
    """The store of a deployment; it is not open yet."""
    bounds = Bounds(
        config.job_queue, config.job_store_bytes, config.job_result_seconds, config.job_lease_seconds
    )
    if config.jobs_url.startswith("sqlite:"):
        path = config.jobs_url.removeprefix("sqlite:").removeprefix("//")
        return SqliteStore(Path(path) if path else state_dir(config.app) / "jobs.sqlite", bounds)
    from slowpool.jobs.valkey import ValkeyStore  # only then: its library takes time to import

    return ValkeyStore(config.jobs_url, bounds)
