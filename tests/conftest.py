"""What all tests share."""

import os
import shutil
from collections.abc import Iterator

import pytest
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright

import shared_models  # noqa: F401 - what it sets must stand before gRPC is imported
from tests.identities import Visitors

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# Before torch is imported, here and in every process that a test starts: threads that share busy
# cores spin against each other, and then a second takes a minute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A property holds or not; how long an example takes depends on who else uses the machine. Examples
# are the same on every run: `make fuzz` is what looks for new ones.
settings.register_profile("concerto", deadline=None, derandomize=True)
settings.load_profile("concerto")


@pytest.fixture(scope="session")
def visitors(tmp_path_factory: pytest.TempPathFactory) -> Visitors:
    """Everybody who may knock at a door; tests must not change it."""
    return Visitors.gather(tmp_path_factory.mktemp("visitors"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; where there is none, what needs it is skipped or, if it must run, fails."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        reason = "no Chromium here: `make browser` installs one"
        if os.environ.get("CONCERTO_BROWSER") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    # Chromium has no sandbox for root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()
