"""Tables of originals as training, evaluation and users see them."""

import random
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from cloud_server.behaviour import Behaviour
from cloud_server.checkpoints import Trained
from cloud_server.dataset import EventKeys
from cloud_server.evaluate import predictions
from shared_models.catalog import load_method, resolve
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog, targets
from shared_models.logs.tables.cigar import CIGAR
from shared_models.logs.tables.ecrec import ECREC
from shared_models.logs.tables.format import Format
from shared_models.logs.tables.pinrec import PINREC
from shared_models.logs.tables.read import read_tables
from tests.shared_models.logs.tables.conftest import cigar_row, ecrec_row, pinrec_row, write_table

USERS, ITEMS = 6, 40
Life = list[int]
Row = Callable[..., str]


def listed(items: Life) -> str:
    return ",".join(map(str, items))


def ecrec(user: int, item: int, label: int, life: Life) -> str:
    long, short = listed(life[-100:]), listed(life[-8:])
    ids = {"user_id": str(user), "item_id": str(item), "label": str(label)}
    seen = {"item_seq": long, "cate_seq": long, "edge_item_seq": short, "edge_cate_seq": short}
    return ecrec_row(**ids, **seen, seq_len=str(len(life[-100:])))


def cigar(user: int, item: int, label: int, life: Life) -> str:
    names = ("adgroup", "cate", "campaign", "customer", "brand")
    ids = {"user_id": str(user), "adgroup_id": str(item), "label": str(label)}
    return cigar_row(**ids, **{f"click_{name}": listed(life[-100:]) for name in names})


def pinrec(user: int, item: int, label: int, life: Life) -> str:
    ids = {"user_id": str(user), "target_id": str(item), "label": str(label)}
    # The original wants sequences of one length: 0 is padding.
    padded = [0] * (100 - len(life[-100:])) + life[-100:]
    return pinrec_row(**ids, clk_sequence=listed(padded), group_id=str(user % 5))


def write(folder: Path, row: Row, rows: int = 120) -> tuple[Path, Path, list[Life]]:
    """A table to train on and one to test on, and the newest items before each of their rows."""
    rng, lives = random.Random(0), [[] for _ in range(USERS)]  # noqa: S311 - a toy
    lines, histories = [], []
    for _ in range(rows):
        user, item, label = rng.randrange(USERS), rng.randint(1, ITEMS), rng.randrange(2)
        lives[user] += rng.choices(range(1, ITEMS + 1), k=rng.randrange(12))
        lines.append(row(user, item, label, lives[user]))
        histories.append(lives[user][-100:])
        lives[user] += [item] * label
    test = write_table(folder, lines[-30:], "test.txt")
    return write_table(folder, lines[:-30], "train.txt"), test, histories


def raw(log: PreparedLog, items: pl.Series) -> list[int]:
    names = dict(log.item_table.select("item", "raw").iter_rows())
    return [int(names[item]) for item in items if item]


@pytest.mark.parametrize(("form", "row"), [(ECREC, ecrec), (CIGAR, cigar), (PINREC, pinrec)])
def test_training_sees_before_each_row_what_the_row_itself_says(
    tmp_path: Path, form: Format, row: Row
) -> None:
    train, test, histories = write(tmp_path, row)
    log = prepare(read_tables([train, test], form), "tables", tmp_path / "log")
    rows = targets(log.events).sort("at")
    behaviour, keys = Behaviour.of(log.events, log.users), EventKeys.of(rows)

    found = behaviour.histories(keys.user_B, keys.seq_B, 100)

    assert max(map(len, histories)) == 100
    assert len({len(history) for history in histories}) > 50
    assert [raw(log, pl.Series(own)) for own in found] == histories


def test_predictions_name_the_row_of_the_table(tmp_path: Path) -> None:
    train, test, _ = write(tmp_path, cigar)
    # Pairs of rows with one history are one request, and still two rows.
    lines = [line for line in test.read_text().splitlines() for _ in range(2)]
    test = write_table(tmp_path, lines, "test.txt")
    log = prepare(read_tables([train, test], CIGAR), "tables", tmp_path / "log")
    method = load_method("base", resolve("base", log.items, "gru4rec", {}))
    trained = Trained(method, method.build(seed=0).eval(), log.hash, 0)

    frame = predictions(trained, log, data_seed=0)

    cells = [line.split("\t") for line in lines]
    assert frame["row"].to_list() == list(range(1, 61))
    assert raw(log, frame["item"]) == [int(cell[20]) for cell in cells]
    assert frame["label"].cast(pl.Int64).to_list() == [int(cell[28]) for cell in cells]
    assert frame["score"].is_finite().all()
