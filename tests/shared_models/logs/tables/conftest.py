"""Rows of the originals' tables, cell by cell."""

from collections.abc import Sequence
from pathlib import Path

from shared_models.logs.tables.cigar import ITEM_FIELDS, USER_FIELDS


def ecrec_row(**cells: str) -> str:
    """A good row of ECRec's, but for what ``cells`` says."""
    usual = {
        "user_id": "4",
        "item_id": "7",
        "cate_id": "2",
        "label": "1",
        "item_seq": "3,5,6",
        "cate_seq": "1,2,2",
        "edge_item_seq": "8,9",
        "edge_cate_seq": "1,1",
        "seq_len": "3",
    }
    assert usual.keys() >= cells.keys()
    return "\t".join({**usual, **cells}.values())


def cigar_row(**cells: str) -> str:
    """A good row of CIGAR's, but for what ``cells`` says."""
    usual = {
        "user_id": "4",
        **{name: str(place) for place, name in enumerate(USER_FIELDS)},
        "neighbours": "5,6",
        **dict.fromkeys(("empty_11", "empty_12", "empty_13"), ""),
        **{f"click_{name}": "3,5,6" for name in ITEM_FIELDS},
        **dict.fromkeys(("empty_19", "empty_20"), ""),
        **{f"{name}_id": "7" for name in ITEM_FIELDS},
        **dict.fromkeys(("empty_26", "empty_27", "empty_28"), ""),
        "label": "1",
    }
    assert usual.keys() >= cells.keys()
    return "\t".join({**usual, **cells}.values())


def pinrec_row(**cells: str) -> str:
    """A good row of PINRec's, but for what ``cells`` says."""
    usual = {
        "user_id": "4",
        "target_id": "7",
        "clk_sequence": "3,5,6",
        "label": "1",
        "group_id": "2",
    }
    assert usual.keys() >= cells.keys()
    return ";".join({**usual, **cells}.values())


def write_table(folder: Path, rows: Sequence[str], name: str = "table.txt") -> Path:
    """A table of these rows."""
    path = folder / name
    path.write_text("".join(f"{row}\n" for row in rows))
    return path
