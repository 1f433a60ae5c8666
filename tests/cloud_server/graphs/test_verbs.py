"""The training verbs on a graph's files."""

import json
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from cloud_server.checkpoints import load_checkpoint, load_node_checkpoint
from cloud_server.graphs import verbs
from shared_models.contract.bundle import BundleStore
from shared_models.contract.errors import BadNode, BadSetting, PathMissing, UnknownName
from tests.cloud_server.graphs.conftest import NODES

QUICK = {"train": {"epochs": 3}, "ggcn": {"width": 8, "depths": [1, 2]}}


def carry_out(verb: str, prefix: Path | None, out: Path, settings: dict = QUICK, **given) -> None:
    verbs.carry_out(verb, "ggcn", settings, prefix, given, verbs.Place(0, out, None))


def test_a_graph_is_trained_on_judged_and_compiled(
    prefix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"

    for verb in ("train", "infer", "export"):
        carry_out(verb, prefix, out)

    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["test"]) == {"nodes", "accuracy", "micro_f1", "macro_f1"}
    frame = pl.read_parquet(out / "predictions.parquet")
    assert frame.columns == ["node", "part", "label", "scores"]
    assert len(frame) == NODES
    bundles = BundleStore(out / "bundles")
    assert bundles.get(bundles.released()["ggcn"]).manifest.nodes is not None
    assert "next: concerto-cloud serve" in capsys.readouterr().out
    assert load_node_checkpoint(out).method.config.layers in (1, 2)
    with pytest.raises(BadSetting, match="holds a ggcn, which does not rank"):
        load_checkpoint(out)


def test_a_model_of_another_graph_or_with_other_settings_is_not_judged(
    prefix: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    with pytest.raises(PathMissing, match="run concerto-cloud train"):
        carry_out("infer", prefix, out)
    carry_out("train", prefix, out)

    with pytest.raises(BadSetting, match="trained with other settings"):
        carry_out("infer", prefix, out, {**QUICK, "ggcn": {"width": 9}})
    prefix.with_name("clustered-feats.npy").unlink()
    with pytest.raises(BadSetting, match="trained on another graph"):
        carry_out("infer", prefix, out)


def test_a_wrong_graph_is_refused_and_nothing_is_written(prefix: Path, tmp_path: Path) -> None:
    told = prefix.with_name("clustered-class_map.json")
    classes = json.loads(told.read_text())
    told.write_text(json.dumps({**classes, "n3": [1]}))

    with pytest.raises(BadNode, match="node 'n3': expected a label of width 3, found 1"):
        carry_out("train", prefix, tmp_path / "model")

    assert not (tmp_path / "model").exists()


def test_options_that_only_logs_have_are_refused(prefix: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="'log': ggcn classifies the nodes of a graph"):
        carry_out("train", prefix, tmp_path, log="movielens-100k")
    with pytest.raises(BadSetting, match="'prefix': ggcn reads a graph: name it"):
        carry_out("train", None, tmp_path)
    with pytest.raises(UnknownName, match=r"did you mean 'train\.nodes'"):
        carry_out("train", prefix, tmp_path, {"train": {"node": 1}})


def test_keys_tell_settings_apart() -> None:
    plain, same, other = (verbs.resolved("ggcn", each) for each in ({}, {}, {"ggcn": {"width": 9}}))

    assert plain == same
    assert plain["key"] != other["key"]
    assert plain["config"]["width"] == 64


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--method", "ggcn"), "'prefix': ggcn reads a graph"),
        (("--method", "ggcn", "--log", "synthetic"), "give --prefix alone"),
        (("--method", "base", "--prefix", "x"), "base has no such format: give --log"),
        (("--method", "ggcn", "--prefix", "nowhere/x"), "nowhere/x-G.json: no such file"),
    ],
)
def test_the_command_says_what_is_missing(
    options: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "cloud_server.cli", "train", *options, "--out", str(tmp_path)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode == 2
    assert re.search(told, done.stderr), done.stderr
