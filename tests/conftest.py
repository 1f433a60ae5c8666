"""What all tests share."""

import os

import pytest
from hypothesis import settings

# Before torch is imported, here and in every process that a test starts: threads that share busy
# cores spin against each other, and then a second takes a minute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A property holds or not; how long an example takes depends on who else uses the machine.
settings.register_profile("concerto", deadline=None)
settings.load_profile("concerto")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what is dear to make stay on one core: those of a file, or of a case."""
    for item in items:
        case = getattr(item, "callspec", None) if "conformance" in item.path.parts else None
        group = case.id.partition("-")[0] if case else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
