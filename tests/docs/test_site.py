"""The site of the documentation: it is built without a warning, and needs no other host."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from typing_extensions import override

from cloud_server.settings import ServeSettings
from device_client.settings import DeviceSettings
from docs.generate import commands, protos, report_schema, settings
from docs.generate.methods import linked
from shared_models.catalog import method_names
from tests.pages import DOCS, ROOT

FIGURE = re.compile(r"[+-]\.\d+ \[[^\]]+\]")


class Loaded(HTMLParser):
    """What a browser loads to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.found.append(given.get("src") or "")
        elif tag == "link" and given.get("rel") != "canonical":
            self.found.append(given.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not re.search(r"warning|error", done.stderr, re.IGNORECASE), done.stderr
    return out


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    outside = []
    for page in site.rglob("*.html"):
        parser = Loaded()
        parser.feed(page.read_text())
        outside += [(page.name, url) for url in parser.found if re.match(r"(\w+:)?//", url)]

    assert outside == []


def test_every_method_and_every_decision_has_a_page(site: Path) -> None:
    decisions = {path.stem for path in (DOCS / "adr").glob("*.md")}

    assert {path.stem for path in (site / "methods").glob("*.html")} == set(method_names())
    assert {path.stem for path in (site / "adr").glob("*.html")} == decisions


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_fit_a_desk_and_a_phone_and_complain_of_nothing(
    site: Path, browser: Browser, width: int, theme: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    heard: list[str] = []
    page.on("request", lambda asked: heard.append(asked.url))
    page.on("pageerror", lambda error: heard.append(f"error: {error}"))
    wide = []

    for file in sorted(site.rglob("*.html")):
        page.goto(file.as_uri())
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(file.name)

    page.close()
    assert wide == []
    assert [each for each in heard if not each.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.slow
def test_the_picture_takes_the_colours_of_the_page(site: Path, browser: Browser) -> None:
    seen = {}
    for theme in ("light", "dark"):
        page = browser.new_page(color_scheme=theme)
        page.goto((site / "index.html").as_uri())
        seen[theme] = page.evaluate(
            "[getComputedStyle(document.querySelector('.architecture .name')).fill,"
            " getComputedStyle(document.querySelector('article p')).color]"
        )
        page.close()

    assert seen["light"][0] == seen["light"][1]
    assert seen["dark"][0] == seen["dark"][1]
    assert seen["light"] != seen["dark"]


def test_the_reference_has_every_command_and_setting() -> None:
    shown = settings.page()

    for program, verb in (("concerto", "data prepare"), ("concerto-cloud", "refresh-memories")):
        assert f"### {program} {verb}\n" in commands.page()
    assert "| `--cloud-host <str>` |" in commands.page()
    for name in DeviceSettings.model_fields:
        assert re.search(rf"\| `device\.{name}[`.]", shown)
    for name in ServeSettings.model_fields:
        assert f"| `cloud.{name}` |" in shown
    assert "| `duet.max_lag` | whole number | `20` |" in shown
    assert "| `device.refresh.rule` | `never`, `once`, `always`" in shown


def test_the_reference_of_the_wire_carries_the_comments_of_the_protos() -> None:
    shown = protos.page()

    assert (
        "| `hello` | 4 | `Hello` | Opens the session: who asks, and with which bundle. |" in shown
    )
    assert "| `Session` | `stream Ask` | `stream Answer` |" in shown
    assert "|  |" not in shown


def test_the_reference_of_the_report_tells_units() -> None:
    assert "| `gauc` | [Estimate](#estimate) | share of pairs |" in report_schema.page()


def test_links_between_files_become_links_of_the_site() -> None:
    page = "[a](../shared_models/methods/duet/README.md) [b](adr/x.md#y) [c](https://x.org/z.md)"
    method = "[a](../../../docs/quality.md) [b](../base/README.md)"

    assert (
        linked(page, "index.md") == "[a](methods/duet.md) [b](adr/x.md#y) [c](https://x.org/z.md)"
    )
    assert linked(method, "methods/duet.md") == "[a](../quality.md) [b](base.md)"


def test_what_helps_to_choose_a_method_stands_in_its_evidence() -> None:
    shown = FIGURE.findall((DOCS / "choose.md").read_text())
    evidence = (DOCS / "quality.md").read_text()

    assert len(shown) > 10
    assert [figure for figure in shown if figure not in evidence] == []
