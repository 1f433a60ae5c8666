"""What all tests share."""

from hypothesis import settings

# A property holds or not; how long an example takes depends on who else uses the machine.
settings.register_profile("concerto", deadline=None)
settings.load_profile("concerto")
