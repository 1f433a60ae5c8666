"""What generated pages are written with."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar or a line break in a cell ends neither the cell nor the row."""
    lines = [header, ["---"] * len(header), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def code(text: object) -> str:
    """Text as it is typed; nothing for nothing."""
    return f"`{text}`" if f"{text}" else ""


def plain(docstring: str) -> str:
    """The first paragraphs of a docstring: Sphinx's double backticks single, no `Attributes:`."""
    about = docstring.partition("\nAttributes:")[0].replace("``", "`")
    return "\n".join(line.strip() for line in about.strip().splitlines())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
