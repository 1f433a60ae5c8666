"""The pages of the documentation as tests read them: what stands in their fences."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Final

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
_FENCE: Final = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_ASSIGNMENT: Final = re.compile(r"[A-Z_]+=.*", re.DOTALL)
_ENDS: Final = {"&&", "||", ";", "|", "&", "(", ")"}


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block of a page.

    Attributes:
        page: the file, from the root.
        line: where it begins.
        kind: the words behind its backticks, as in ``sh``, ``sh bench`` or ``yaml title="x.yaml"``.
        text: what is in it.
    """

    page: str
    line: int
    kind: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, where it is one."""
        title = re.search(r'title="([^"]+)"', self.kind)
        return title[1] if title else None


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a page: its words, and what it puts into its environment."""

    fence: Fence
    words: tuple[str, ...]
    environment: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.fence.page}:{self.fence.line} {' '.join(self.words)}"


def pages() -> list[Path]:
    """Every page of the docs."""
    return sorted(DOCS.rglob("*.md"))


def fences(page: Path) -> Iterator[Fence]:
    """The fenced blocks of a page, in order."""
    content = page.read_text()
    for found in _FENCE.finditer(content):
        line = content.count("\n", 0, found.start()) + 1
        yield Fence(str(page.relative_to(ROOT)), line, found[2].strip(), dedent(found[3]))


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def commands(fence: Fence) -> Iterator[Command]:
    """The single commands of a block of shell."""
    for line in fence.text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for token in [*_tokens(line), ";"]:
            if token not in _ENDS:
                words.append(token)
            elif words:
                yield _command(fence, words)
                words = []


def _tokens(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def _command(fence: Fence, words: list[str]) -> Command:
    """Without what is put into its environment, and without where its output goes."""
    assigned = 0
    while assigned < len(words) and _ASSIGNMENT.fullmatch(words[assigned]):
        assigned += 1
    said = words[assigned : words.index(">")] if ">" in words else words[assigned:]
    return Command(fence, tuple(said), tuple(words[:assigned]))
