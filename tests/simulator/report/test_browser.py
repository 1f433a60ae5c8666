"""The report of a full comparison as a reader opens it: from a file, in Chromium."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from simulator.report.page import write_report
from tests.simulator.report.conftest import make_run

pytestmark = pytest.mark.slow

WIDTHS = (1280, 400)
THEMES = ("light", "dark")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight entries, each of 20,000 rankings."""
    return write_report(make_run(tmp_path_factory.mktemp("full"), count=20_000, seeds=(0,)))


@pytest.fixture(scope="module", params=[(w, theme) for w in WIDTHS for theme in THEMES])
def opened(
    browser: Browser, report: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Page, list[str]]]:
    """The page with all charts drawn, and what it said and asked for meanwhile."""
    width, theme = request.param
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    heard: list[str] = []
    page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: heard.append(f"error: {error}"))
    page.on("request", lambda asked: heard.append(f"request: {asked.url}"))
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-drawn=yes]", timeout=60_000)
    yield page, heard
    page.close()


def test_the_page_is_at_most_three_megabytes(report: Path) -> None:
    assert report.stat().st_size <= 3_000_000


def test_the_page_draws_every_chart_in_silence(
    opened: tuple[Page, list[str]], report: Path
) -> None:
    page, heard = opened

    sizes = page.eval_on_selector_all(
        "[data-chart]",
        "all => all.map(one => one.querySelector('svg')?.getBoundingClientRect().width ?? 0)",
    )

    assert len(sizes) > 15
    assert min(sizes) > 150
    marks = page.eval_on_selector_all(
        "[data-chart]", "all => all.map(one => one.querySelectorAll('.role-mark path').length)"
    )
    assert min(marks) > 0, "a chart without a mark"
    assert heard == [f"request: {report.as_uri()}"]


def test_nothing_sticks_out_of_the_page(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened

    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_page_is_legible_for_everybody(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    found = Axe().run(page)

    problems = {
        rule["id"]: [node["html"][:120] for node in rule["nodes"][:3]]
        for rule in found.response["violations"]
    }
    assert problems == {}
