"""``python -m deploy.healthcheck fast|slow``: exit status 0 when every instance here is ready."""

import sys
import urllib.request

from app.config import Config, Pool


def main() -> None:
    """Ask each instance of the pool for ``/readyz``; the first that does not say 200 is the end."""
    for instance in Config.load().instances(Pool(sys.argv[1])):
        try:
            # Without a proxy: the machine's may not be asked for this one.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            opener.open(f"http://127.0.0.1:{instance.port}/readyz").close()
        except OSError as error:
            sys.exit(f"{instance} is not ready: {error}")


if __name__ == "__main__":
    main()
