"""An instance in the process of the test: what answers its requests."""

import demo
from slowpool.instance import Runtime, State
from slowpool.status.system import system_application
from slowpool.web.host import Host


def hosted(runtime: Runtime) -> Host:
    """The demo and the system routes of an instance that is ready, for an HTTPServer to serve."""
    runtime.system = system_application(runtime)
    runtime.state = State.READY
    return Host(runtime, demo.make_app())
