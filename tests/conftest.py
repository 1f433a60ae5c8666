"""What all tests share."""

import os

from hypothesis import settings

# Before torch is imported, here and in every process that a test starts: threads that share busy
# cores spin against each other, and then a second takes a minute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A property holds or not; how long an example takes depends on who else uses the machine.
settings.register_profile("concerto", deadline=None)
settings.load_profile("concerto")
