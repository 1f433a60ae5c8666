"""Names of the files of a graph."""

from pathlib import Path

from shared_models.contract.errors import BadSetting


def beside(prefix: Path, name: str) -> Path:
    """``PREFIX-name``.

    Raises:
        BadSetting: the prefix ends with a folder.
    """
    if not prefix.name:
        raise BadSetting("prefix", f"{str(prefix)!r} names no graph: give FOLDER/NAME")
    return prefix.with_name(f"{prefix.name}-{name}")
