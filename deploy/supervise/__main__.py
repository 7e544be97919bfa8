"""``python -m deploy.supervise fast|slow|local``."""

import sys

from deploy.supervise.run import main

if __name__ == "__main__":
    sys.exit(main())
