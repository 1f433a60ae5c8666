"""What the site adds to the files of ``docs``: pages that are made of the code as it is built."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.generate import commands, methods, protos, report_schema, settings

REFERENCE: Final = {
    "reference/commands.md": commands.page,
    "reference/settings.md": settings.page,
    "reference/protos.md": protos.page,
    "reference/report-schema.md": report_schema.page,
}
_DECISIONS: Final = "adr/"
_MARKER: Final = re.compile(r"^```sh bench$", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of a folder in the place of its name; so no new page can be forgotten."""
    decisions = Path(config.docs_dir, _DECISIONS).glob("*.md")
    folders = {
        _DECISIONS: sorted(f"{_DECISIONS}{file.name}" for file in decisions),
        "methods/": [place for place, _ in methods.pages()],
    }
    config.nav = _filled(config.nav, folders)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference and a page for each method; nothing of it lies in the repository."""
    made = {place: page() for place, page in REFERENCE.items()}
    for place, content in [*made.items(), *methods.pages()]:
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(
    markdown: str,
    page: Page,
    config: MkDocsConfig,  # noqa: ARG001 - by name
    files: Files,  # noqa: ARG001 - by name
) -> str:
    """Turn links between files into links of the site; what tests read in fences is not for it."""
    return methods.linked(_MARKER.sub("```sh", markdown), page.file.src_uri)


def _filled(nav: Any, folders: Mapping[str, list[str]]) -> Any:
    """A part of the navigation with the pages of ``folders`` in it."""
    if isinstance(nav, list):
        return [_filled(each, folders) for each in nav]
    if isinstance(nav, dict):
        return {title: _filled(each, folders) for title, each in nav.items()}
    return folders.get(nav, nav)
