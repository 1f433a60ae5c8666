"""A training step on a device beside a bare run of its graph ``grad``, and the memory of learning.

    python -m bench.learning [METHOD]

The step is what `device_client.learner` does with a batch of 32 events and the drawn items beside
them: slots fed, graph run, Adam. The bare side runs the same graph with the same inputs ready made.
Both take turns in one process that holds what a device holds, and no torch. Resident memory is that
of two processes of their own, one that ranks and one that also learns. Over three trunks with the
catalogue of MovieLens-100K; the exit code is 1 where a target is missed. Takes about a minute.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.ratios import Ratio, Verdict, table
from shared_models.catalog import load_method, resolve
from shared_models.contract.bundle import Bundle, BundleStore
from shared_models.export import compile_bundle

ITEMS: Final = 1682
"""Of MovieLens-100K."""
TRUNKS: Final = ("sasrec", "gru4rec", "din")
ROWS: Final = 32
MOST_MEMORY: Final = 30e6
STEP: Final = "a training step / a bare run of its graph, steps a second"


def exported(name: str, trunk: str) -> Bundle:
    """An untrained model's bundle: how long a step takes does not hang on the weights."""
    settings = {name: {"learning": {"rows": ROWS}}}
    method = load_method(name, resolve(name, ITEMS, trunk, settings))
    return compile_bundle(method, method.build(0), log_hash="none")


def inference_alone(bundle: Bundle) -> Bundle:
    """The same model for devices that do not learn."""
    about = bundle.manifest.model_dump(mode="json", exclude={"files"})
    return Bundle.make({**about, "learning": None}, bundle.files)


def told(what: str, folder: Path, bundle: Bundle) -> str:
    """What `bench.one_learner` says."""
    store = BundleStore(folder)
    store.add(bundle)
    command = [sys.executable, "-m", "bench.one_learner", what, str(folder / bundle.id)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


def main(name: str = "finetune") -> int:
    verdicts, grown = [], {}
    with tempfile.TemporaryDirectory() as place:
        for trunk in TRUNKS:
            bundle = exported(name, trunk)
            pairs = json.loads(told("steps", Path(place), bundle))
            ratio = Ratio(trunk, f"{name} ({trunk}): {STEP}", target=1 / 1.2, rounds=len(pairs))
            verdicts.append(Verdict(ratio, [tuple(pair) for pair in pairs]))
            learning = int(told("learn", Path(place), bundle))
            grown[trunk] = learning - int(told("rank", Path(place), inference_alone(bundle)))
    print(table(verdicts))
    for verdict, (trunk, more) in zip(verdicts, grown.items(), strict=True):
        print(f"{verdict}; {1e3 / verdict.pairs[0][0]:.2f} ms a step")
        print(f"{trunk}: learning keeps {more / 1e6:.1f} MB more than inference alone (at most 30)")
    holds = all(verdict.holds for verdict in verdicts)
    return 0 if holds and max(grown.values()) <= MOST_MEMORY else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
