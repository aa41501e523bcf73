"""TTT4Rec and its gated test-time adaptation."""

import os

# Threads of several processes share the cores: one that waits must sleep, not spin. OpenMP reads this when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
