"""For the whole suite: one thread for torch.

The models of the tests are tiny. Several threads only wait for each other, and where tests run
side by side they wait for a long time.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
