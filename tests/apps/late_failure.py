"""An application that takes its time to load, and then cannot be."""

import time

time.sleep(1.5)  # longer than supervisor watches a start
raise RuntimeError("the model is missing")
