"""Graphs of items as something for a trunk to lean on: what is said of items, and what it reads."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from cloud_server.checkpoints import load_checkpoint
from cloud_server.cli import app
from cloud_server.graphs.items import item_vectors
from cloud_server.recipe import NodeTrainSettings, TrainSettings, training_code
from cloud_server.train import train
from shared_models.catalog import load_method, resolve
from shared_models.config import TrunkConfig
from shared_models.contract.errors import BadSetting
from shared_models.contract.tensors import Float32Array
from shared_models.export import compile_bundle
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog, write_log
from shared_models.logs.source import Source
from shared_models.method import Method
from tests.cloud_server.test_train import Silent

USERS, ITEMS, EVENTS, WIDTH = 12, 30, 25, 8
QUICK = NodeTrainSettings(epochs=5)
TRAINING = TrainSettings(epochs=1, rows=64)
LEANS = {"features": "graph", "graph": {"width": WIDTH}}


@pytest.fixture(scope="module")
def source() -> Source:
    """Users who take items of their own half of the catalogue, whose kinds are told."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, ITEMS // 2, (USERS, EVENTS)) * 2 + np.arange(USERS)[:, None] % 2
    events = pl.DataFrame(
        {
            "user": np.repeat(np.arange(USERS), EVENTS),
            "item": drawn.ravel(),
            "at": np.tile(np.arange(float(EVENTS)), USERS),
        }
    )
    raw = [str(item) for item in range(ITEMS)]
    kinds = [("even small", "odd")[item % 2] if item < 9 else "large" for item in range(ITEMS)]
    return Source("halves", events, items=pl.DataFrame({"raw": raw, "kind": kinds}))


@pytest.fixture(scope="module")
def log(source: Source, tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    return prepare(source, "user-tail", tmp_path_factory.mktemp("log") / "log")


def said(log: PreparedLog, seed: int = 0, **trunk: object) -> Float32Array:
    config = TrunkConfig.model_validate({**LEANS, **trunk})
    return item_vectors(log, config, QUICK, seed, lambda *_: None)


def base(log: PreparedLog, trunk: str = "pool", **settings: object) -> Method:
    method: Method = load_method("base", resolve("base", log.items, trunk, {"trunk": settings}))
    return method


def test_every_item_has_standardised_features_and_no_item_has_none(log: PreparedLog) -> None:
    vectors = said(log)

    assert vectors.shape == (log.items + 1, WIDTH)
    assert vectors.dtype == np.float32
    assert not vectors[0].any()
    np.testing.assert_allclose(vectors[1:].mean(0), 0, atol=1e-5)
    assert set(np.round(vectors[1:].std(0), 4).tolist()) <= {0.0, 1.0}
    assert vectors.any()


def test_what_comes_after_the_training_part_says_nothing_of_items(
    log: PreparedLog, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    frames = {name: getattr(log, name) for name in ("train", "validation", "test")}
    for part in ("validation", "test"):
        other = pl.Series(rng.integers(1, log.items + 1, len(frames[part])), dtype=pl.Int32)
        frames[part] = frames[part].with_columns(item=other)
    tables = {"items": log.item_table, "users": log.user_table}
    about = log.manifest.model_dump(include={"name", "task", "split", "leaks"})
    changed = write_log(tmp_path / "changed", {**frames, **tables}, about)
    assert changed.hash != log.hash

    np.testing.assert_array_equal(said(changed), said(log))


def test_the_control_gives_every_item_the_features_of_another_one(log: PreparedLog) -> None:
    own, shuffled = said(log)[1:], said(log, features="graph-shuffled")[1:]

    assert (own != shuffled).any()
    np.testing.assert_array_equal(*(np.sort(rows.view("V32").ravel()) for rows in (own, shuffled)))


def test_the_seed_decides_and_edges_count(log: PreparedLog) -> None:
    first = said(log)

    np.testing.assert_array_equal(said(log), first)
    assert (said(log, seed=1) != first).any()
    assert (said(log, graph={"width": WIDTH, "layers": 0}) != first).any()


def test_a_column_may_be_named_and_a_wrong_one_is_told(log: PreparedLog) -> None:
    assert said(log, graph={"width": WIDTH, "labels": "kind"}).any()

    with pytest.raises(BadSetting, match=r"trunk\.graph\.labels.*no 'genre', but kind"):
        said(log, graph={"labels": "genre"})


def test_items_without_features_have_nothing_to_learn(source: Source, tmp_path: Path) -> None:
    bare = prepare(Source("bare", source.events), "user-tail", tmp_path / "log")

    with pytest.raises(BadSetting, match=r"items of bare have no features.*trunk\.features=none"):
        said(bare)


@pytest.mark.parametrize("trunk", ["sasrec", "gru4rec", "din", "pool"])
def test_what_was_trained_on_a_graph_is_a_plain_model_from_then_on(
    log: PreparedLog, tmp_path: Path, trunk: str
) -> None:
    leans = base(log, trunk, **LEANS)

    trained = train(leans, log, TRAINING, 0, tmp_path, Silent())

    found, plain = load_checkpoint(tmp_path).model.state_dict(), base(log, trunk).build(0)
    for name, value in plain.state_dict().items():
        assert found[name].shape == value.shape
        np.testing.assert_array_equal(found[name], trained.model.state_dict()[name])
    assert len(found) == len(plain.state_dict())


def test_what_leaned_on_a_graph_takes_a_device_no_byte_more(
    log: PreparedLog, tmp_path: Path
) -> None:
    plain, leans = (
        train(base(log, **own), log, TRAINING, 0, tmp_path / str(len(own)), Silent())
        for own in ({}, LEANS)
    )

    scorers = [compile_bundle(t.method, t.model, log.hash).graph("scorer") for t in (plain, leans)]

    assert len(scorers[0]) == len(scorers[1])
    assert scorers[0] != scorers[1]


def test_a_killed_training_that_leans_goes_on_as_if_nothing_had_happened(
    log: PreparedLog, tmp_path: Path
) -> None:
    settings = TrainSettings(epochs=2, rows=16)
    whole = train(base(log, **LEANS), log, settings, 0, tmp_path / "whole", Silent())
    with pytest.raises(KeyboardInterrupt):
        train(base(log, **LEANS), log, settings, 0, tmp_path / "killed", Silent(killed_after=1))
    again = Silent()

    resumed = train(base(log, **LEANS), log, settings, 0, tmp_path / "killed", again)

    assert [epoch.number for epoch in again.epochs] == [2]
    for name, value in resumed.model.state_dict().items():
        np.testing.assert_array_equal(value, whole.model.state_dict()[name])


def test_leaning_is_part_of_what_names_a_model_and_so_is_the_networks_code() -> None:
    def key(*settings: str) -> str:
        arguments = [part for setting in settings for part in ("--set", setting)]
        done = CliRunner().invoke(app, ["resolve", "--method", "base", *arguments])
        return str(json.loads(done.stdout)["key"])

    keys = [key(), *(key(f"trunk.features={name}") for name in ("graph", "graph-shuffled"))]

    assert len({*keys, key("trunk.features=graph", "trunk.graph.layers=1")}) == 4
    leans, not_so = (training_code("base", TrunkConfig(features=f)) for f in ("graph", "none"))
    assert leans != not_so
