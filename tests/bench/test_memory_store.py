"""The memory's bench without its measurements: both sides do the same work."""

from contextlib import closing
from pathlib import Path

from bench.memory_store import RATIO, TASTE, committed, endless_puts, remembered
from cloud_server.memory.sqlite import SqliteMemory, _opened


def test_both_files_end_with_the_same_rows(tmp_path: Path) -> None:
    with (
        closing(SqliteMemory(tmp_path / "memory.sqlite", [TASTE])) as memory,
        closing(_opened(tmp_path / "bare.sqlite")) as db,
    ):
        assert remembered(memory, endless_puts(), 300) > 0
        assert committed(db, endless_puts(), 300) > 0

        everything = "SELECT * FROM vectors ORDER BY name, user"
        rows = db.execute(everything).fetchall()
        assert memory._db.execute(everything).fetchall() == rows

    assert len(rows) > 5_000
    assert max(version for _, _, version, *_ in rows) > 2


def test_the_target_is_that_of_the_reference() -> None:
    assert (RATIO.target, RATIO.rounds) == (0.5, 9)
