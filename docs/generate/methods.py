"""A page for each method, which is the README of its folder; and links between both."""

import os.path
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shared_models.catalog import method_names

_ROOT: Final = Path(__file__).parents[2]
_README: Final = re.compile(r"shared_models/methods/(\w+)/README\.md")
_PAGE: Final = re.compile(r"methods/(\w+)\.md")
_LINK: Final = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+\.(?:md|json))")


def pages() -> Iterator[tuple[str, str]]:
    """Where each method's page stands on the site, and what is on it."""
    for name in method_names():
        readme = _ROOT / "shared_models" / "methods" / name / "README.md"
        yield f"methods/{name}.md", readme.read_text()


def linked(markdown: str, page: str) -> str:
    """The links of a page, which are those between files of the repository, as links of the site.

    Args:
        markdown: of the page.
        page: its place on the site.
    """
    method = _PAGE.fullmatch(page)
    file = f"shared_models/methods/{method[1]}/README.md" if method else f"docs/{page}"

    def on_site(link: re.Match[str]) -> str:
        target = os.path.normpath(Path(file).parent / link[0])
        place = _README.sub(r"methods/\1.md", target.removeprefix("docs/"))
        return os.path.relpath(place, Path(page).parent)

    return _LINK.sub(on_site, markdown)
