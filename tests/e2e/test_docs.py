"""What the docs show is what runs: their commands, their examples, and the figures beside them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT
from tests.pages import DOCS, Fence, commands, fences, pages

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1500)]
PROGRAMS = {
    "concerto": "simulator.cli",
    "concerto-cloud": "cloud_server.cli",
    "concerto-device": "device_client.cli",
}
OF_A_RUN = {"ledger.md", "report.md"}
"""Pages whose example is of a run that was there before; it has a test of its own."""
ROW = re.compile(r"^ ?(\w[\w-]*) {2,}(0\.\d+) .* ([\d,]+) B +([\d,]+) B", re.MULTILINE)


TABLE_HEAD = re.compile(r"^ *method +AUC", re.MULTILINE)
"""How a table of a run begins."""


def runs(page: Path) -> bool:
    """Whether there is anything on a page that this file runs."""
    return page.name not in OF_A_RUN and any(map(is_run, fences(page)))


def is_run(fence: Fence) -> bool:
    """Whether it is shell that takes no marker, or Python that is no file of the repository."""
    return fence.kind == "sh" or (fence.kind == "python" and not fence.text.startswith("--8<--"))


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> dict[str, str]:
    """The environment of somebody who has installed this tree."""
    programs = tmp_path_factory.mktemp("bin")
    for name, module in PROGRAMS.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        program.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "CONCERTO_CACHE": str(cache),
        # Devices that are started before their simulator wait for it, on a busy machine for long.
        "CONCERTO_DEVICE_CONNECT_S": "120",
    }


@pytest.mark.parametrize("page", [page for page in pages() if runs(page)], ids=lambda it: it.name)
def test_what_a_page_says_to_type_runs_and_gives_what_it_shows(
    page: Path, shell: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path

    for fence in fences(page):
        if fence.file:
            (tmp_path / fence.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / fence.file).write_text(fence.text)
        elif is_run(fence):
            type_in(fence, shell, tmp_path)
            out = tmp_path / written(fence, out)
        elif TABLE_HEAD.search(fence.text):
            assert_found(fence.text, out / "metrics.json")


def type_in(fence: Fence, shell: dict[str, str], folder: Path) -> None:
    """Run a block to its end; what it left in the background ends with it."""
    program = ["bash", "-euo", "pipefail", "-c"] if fence.kind == "sh" else [sys.executable, "-c"]
    said = folder / "said.txt"
    with said.open("wb") as output:
        process = subprocess.Popen(
            [*program, fence.text],
            cwd=folder,
            env=shell,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=600)
        finally:
            with suppress(ProcessLookupError):  # nothing was left
                os.killpg(process.pid, signal.SIGKILL)
    assert code == 0, f"{fence.page}:{fence.line}\n{said.read_text()[-3000:]}"


def written(fence: Fence, last: Path) -> Path:
    """The folder that the block's last run wrote, or the one before."""
    named = [each.words[each.words.index("--out") + 1] for each in commands_with_out(fence)]
    return Path(named[-1]) if named else last


def commands_with_out(fence: Fence) -> list[Any]:
    shells = list(commands(fence)) if fence.kind == "sh" else []
    return [each for each in shells if "--out" in each.words]


def assert_found(shown: str, metrics: Path) -> None:
    """The table is that of the run; floats may differ a little from machine to machine."""
    methods = json.loads(metrics.read_text())["methods"]
    rows = ROW.findall(shown)
    assert len(rows) > 1
    for label, auc, up, down in rows:
        assert methods[label]["auc"]["mean"] == pytest.approx(float(auc), abs=0.005)
        for text, name in ((up, "bytes_up_per_rec"), (down, "bytes_down_per_rec")):
            assert methods[label][name] == pytest.approx(
                int(text.replace(",", "")), rel=0.02, abs=1
            )


def example(page: str) -> str:
    (code,) = [fence.text for fence in fences(DOCS / page) if fence.kind == "python"]
    return code


def test_the_ledgers_example_reproduces_the_table_from_parquet_alone(
    compared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = json.loads((compared / "metrics.json").read_text())["methods"]["duet"]
    found: dict[str, Any] = {}
    monkeypatch.chdir(compared)

    exec(example("ledger.md"), found)  # noqa: S102 - our own page

    lines = example("ledger.md").splitlines()
    assert len([line for line in lines if line and not line.startswith("import")]) == 10
    assert found["auc"] == pytest.approx(metrics["auc"]["mean"], rel=1e-9)
    assert found["hit_rate"] == pytest.approx(metrics["hr@10"]["mean"], rel=1e-9)
    assert found["up"] == metrics["bytes_up_per_rec"]
    assert found["down"] == metrics["bytes_down_per_rec"]
    for name in ("p50", "p95"):
        assert found[name] == pytest.approx(metrics["latency_ms"][name], rel=1e-5)


TREE = ("protos", "shared_models", "cloud_server", "device_client", "simulator", "tests")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as the author of ``longview`` has it: with one folder more."""
    tree = tmp_path_factory.mktemp("tree")
    for name in TREE:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    shutil.copytree(DOCS / "examples/longview", tree / "shared_models/methods/longview")
    return tree


def in_tree(tree: Path, cache: Path, *arguments: str) -> str:
    """``python -m arguments`` as the author types it; what it said."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=tree,
        env={**os.environ, "CONCERTO_CACHE": str(cache), "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_method_of_the_docs_is_short_and_shown_in_whole() -> None:
    files = [path for path in (DOCS / "examples/longview").rglob("*") if path.suffix != ".pyc"]
    page = (DOCS / "add-method.md").read_text()

    lines = sum(len(path.read_text().splitlines()) for path in files if path.is_file())

    assert lines < 150
    assert f"{lines} lines together" in page
    for path in files:
        assert path.is_dir() or f'--8<-- "{path.relative_to(ROOT)}"' in page


def test_the_method_of_the_docs_keeps_every_promise_of_a_method(tree: Path, cache: Path) -> None:
    # A trunk of each kind; the page has the author check all of them.
    chosen = "longview and (sasrec or din) or readme and longview"

    said = in_tree(tree, cache, "pytest", "-q", "tests/conformance", "-k", chosen)

    passed = re.search(r"(\d+) passed", said)
    assert passed is not None
    assert int(passed[1]) > 60


def test_the_method_of_the_docs_plays_on_devices_as_its_page_says(
    tree: Path, cache: Path, tmp_path: Path
) -> None:
    page = DOCS / "add-method.md"
    (typed,) = [
        each.words
        for fence in fences(page)
        if fence.kind == "sh bench"
        for each in commands(fence)
        if each.words[0] == "concerto"
    ]

    in_tree(tree, cache, PROGRAMS[typed[0]], *typed[1:], "--out", str(tmp_path / "run"))

    (shown,) = [fence.text for fence in fences(page) if TABLE_HEAD.search(fence.text)]
    assert_found(shown, tmp_path / "run" / "metrics.json")
