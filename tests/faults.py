"""Commands in processes of their own that a test breaks: killed, out of disk, stopped."""

import os

# how often each fault is injected; REPRODUCE_FAULTS=50 is the full count
FAULTS = int(os.environ.get("REPRODUCE_FAULTS", "10"))
