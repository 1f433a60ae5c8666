"""From the options of a training verb to a job over rows that are no log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cloud_server.rows.settings import RowsJob, RowsTraining
from shared_models.catalog import load_rows, rows_config
from shared_models.contract.errors import BadSetting
from shared_models.contract.settings import validated
from shared_models.logs.rows.prepare import open_or_draw, open_or_prepare_criteo
from shared_models.logs.rows.spec import RowsSpec

_CRITEO: Final = 13
"""Dense features of Criteo's format."""


@dataclass(frozen=True, slots=True)
class RowsOrigin:
    """Where rows come from: tables in Criteo's format, or chance.

    Attributes:
        tables: of several, the last one is the test part.
        random: rows to draw.
        seed: of the draw.
    """

    tables: Sequence[Path]
    random: int | None
    seed: int


def rows_job(
    method: str, origin: RowsOrigin, settings: Mapping[str, Any], seed: int, out: Path
) -> RowsJob:
    """A job on prepared rows, by one process.

    Raises:
        InputError: a setting makes no sense, or a table cannot be used.
    """
    if (config_class := rows_config(method)) is None:
        raise BadSetting("random", f"{method} does not learn from rows: give --log")
    config = validated(config_class, method, settings.get(method, {}))
    training = validated(RowsTraining, "train", settings.get("train", {}))
    spec = validated(RowsSpec, "rows", settings.get("rows", {}))
    if origin.tables and origin.random is not None:
        raise BadSetting("random", "rows are drawn or read: give --table or --random")
    dense = load_rows(method, config).dense
    if origin.random is not None:
        rows = open_or_draw(origin.random, dense, spec, origin.seed)
    elif dense != _CRITEO:
        raise BadSetting(
            method, f"a table has {_CRITEO} dense features, and the network reads {dense}"
        )
    else:
        rows = open_or_prepare_criteo(origin.tables, spec)
    return RowsJob(
        method=method,
        config=config.model_dump(mode="json"),
        rows=rows.folder,
        training=training,
        seed=seed,
        out=out,
    )
