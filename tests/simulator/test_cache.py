"""The cache of trained bundles: trained once, found again, resumed after a kill."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from shared_models.contract.bundle import MANIFEST
from shared_models.contract.errors import InputError, RunFailed
from simulator import cache as cache_module
from simulator.cache import BundleCache, Resolved, entry_key, resolve
from simulator.scenario import Scenario
from tests.simulator.conftest import make_bundle

FAKE = Resolved("fake", "sasrec", ("--method", "fake"), "k", "e", {})

# Stands for the cloud's command line: it counts its trainings and "crashes" where it is told to.
CLOUD = """
import json, pathlib, sys
verb, options = sys.argv[1], dict(zip(sys.argv[2::2], sys.argv[3::2]))
if verb == "resolve":
    if options["--method"] == "duett":
        print("error: unknown method 'duett': did you mean 'duet'?", file=sys.stderr)
        sys.exit(2)
    print(json.dumps({"method": options["--method"], "key": "abc",
                      "export_key": "def", "config": {"width": 32}}))
    sys.exit()
out, bundles = (pathlib.Path(options[name]) for name in ("--out", "--bundles"))
with (out / ("trainings" if verb == "train" else "exports")).open("a") as file:
    file.write("one\\n")
print("fake (sasrec, seed 0) epoch 1", flush=True)
print("noise", flush=True)
first = verb == "train" and (out / "trainings").read_text().count("one") == 1
if first and pathlib.Path("crash").exists():
    sys.exit("killed half-way")
manifest = pathlib.Path("manifest.json").read_bytes()
bundle_id = pathlib.Path("id").read_text()
(out / "training.json").write_text("{}")
(bundles / bundle_id).mkdir(parents=True)
(bundles / bundle_id / "manifest.json").write_bytes(manifest)
(bundles / "released.json").write_text(json.dumps({"fake": bundle_id}))
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BundleCache:
    bundle = make_bundle()
    (tmp_path / "fake_cloud.py").write_text(CLOUD)
    (tmp_path / MANIFEST).write_bytes(bundle.manifest_bytes)
    (tmp_path / "id").write_text(bundle.id)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(cache_module, "CLOUD", "fake_cloud")
    return BundleCache(tmp_path / "cache", "user-tail", tmp_path / "log", "log-hash")


def trainings(tmp_path: Path) -> int:
    return sum(len(path.read_text().split()) for path in tmp_path.rglob("trainings"))


async def test_the_same_model_is_trained_once_and_found_again(
    cache: BundleCache, tmp_path: Path
) -> None:
    said: list[str] = []

    first = await cache.trained(FAKE, 0, said.append)
    again = await cache.trained(FAKE, 0, said.append)

    assert first.bundle.id == again.bundle.id == make_bundle().id
    assert trainings(tmp_path) == 1
    assert said == [
        "trains fake (sasrec, seed 0)",
        "fake (sasrec, seed 0) epoch 1",
        "found fake (sasrec, seed 0), trained before",
    ]


async def test_another_bundle_of_the_same_weights_trains_nothing(
    cache: BundleCache, tmp_path: Path
) -> None:
    said: list[str] = []
    await cache.trained(FAKE, 0, lambda _: None)

    await cache.trained(replace(FAKE, export_key="other"), 0, said.append)

    assert trainings(tmp_path) == 1
    assert said[0] == "exports fake (sasrec, seed 0), trained before"


async def test_two_runs_at_once_train_once(cache: BundleCache, tmp_path: Path) -> None:
    await asyncio.gather(*(cache.trained(FAKE, 0, lambda _: None) for _ in range(2)))

    assert trainings(tmp_path) == 1


async def test_a_training_that_was_cut_short_goes_on_in_its_place(
    cache: BundleCache, tmp_path: Path
) -> None:
    (tmp_path / "crash").touch()
    with pytest.raises(RunFailed, match="killed half-way"):
        await cache.trained(FAKE, 0, lambda _: None)

    trained = await cache.trained(FAKE, 0, lambda _: None)

    assert trained.bundle.id == make_bundle().id
    assert len(list(tmp_path.rglob("trainings"))) == 1, "it went on in another entry"
    assert trainings(tmp_path) == 2


def test_an_entry_is_named_by_all_that_shapes_the_model() -> None:
    other = Resolved("fake", "sasrec", (), "other settings or code", "e", {})

    keys = {
        entry_key(FAKE, "log", "user-tail", 0),
        entry_key(other, "log", "user-tail", 0),
        entry_key(FAKE, "another log", "user-tail", 0),
        entry_key(FAKE, "log", "global-time", 0),
        entry_key(FAKE, "log", "user-tail", 1),
    }

    assert len(keys) == 5
    assert entry_key(FAKE, "log", "user-tail", 0) in keys


@pytest.mark.usefixtures("cache")
def test_what_the_cloud_refuses_is_told_in_its_words() -> None:
    with pytest.raises(InputError, match=r"^unknown method 'duett': did you mean 'duet'"):
        resolve(Scenario(), "duett")


@pytest.mark.usefixtures("cache")
def test_a_resolved_method_carries_what_the_cloud_decided() -> None:
    resolved = resolve(Scenario(train={"epochs": 1}), "duet")

    assert (resolved.key, resolved.export_key) == ("abc", "def")
    assert resolved.config == {"width": 32}
    assert resolved.arguments == (
        "--method",
        "duet",
        "--trunk",
        "sasrec",
        "--set",
        "train.epochs=1",
    )
