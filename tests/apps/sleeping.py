"""Jobs that sleep for a given time and use no CPU."""

import time

from slowpool.web import SlowHandler


class SleepHandler(SlowHandler):
    async def get(self) -> None:
        await self.run(time.sleep, float(self.get_argument("seconds")))
        self.text("slept")


routes = [(r"/slow/sleep", SleepHandler)]
