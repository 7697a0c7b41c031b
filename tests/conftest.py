"""Settings that must be made before libraries are imported."""

import os

# Tests start processes of their own, and small tensors are slower on more threads.
os.environ.setdefault('OMP_NUM_THREADS', '1')
# Nothing is downloaded.
os.environ.setdefault('HF_HUB_OFFLINE', '1')
