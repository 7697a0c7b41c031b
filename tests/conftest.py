"""Settings that must be made before torch is imported."""

import os

# Tests start processes of their own, and small tensors are slower on more threads.
os.environ.setdefault('OMP_NUM_THREADS', '1')
