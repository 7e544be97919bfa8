"""``python -m deploy.supervise.supervisord``: supervisor, which loses no signal and no second at the start.

Its own loop waits for a second before it starts the programs. A signal that comes until then makes it start
and stop them at once: each gets its signal while it is a copy of supervisor, which only notes it, and then
supervisor waits for all of ``stopwaitsecs`` (``Supervisor.runforever`` and ``Subprocess.spawn`` of 4.3).
"""

import os
import signal

from supervisor import options, supervisord

NOTED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""What supervisor notes, of all that a program is stopped with."""


class Options(options.ServerOptions):  # type: ignore[misc]  # supervisor has no types
    def fork(self) -> int:
        """Fork a program, on which signals have their default effect from the first moment on."""
        signal.pthread_sigmask(signal.SIG_BLOCK, NOTED)
        pid = os.fork()
        if pid == 0:
            for number in NOTED:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NOTED)
        return pid


class Supervisor(supervisord.Supervisor):  # type: ignore[misc]
    def runforever(self) -> None:
        """Start the programs, and run until all have ended."""
        for group in sorted(self.process_groups.values()):
            group.transition()
        super().runforever()


if __name__ == "__main__":
    supervisord.ServerOptions, supervisord.Supervisor = Options, Supervisor
    supervisord.main()
