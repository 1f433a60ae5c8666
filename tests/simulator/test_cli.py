"""The command line: exit codes, messages, and nothing half-written."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from simulator import cli
from simulator.options import interrupted

Concerto = Callable[..., tuple[int, str]]

LOG = "user,item,time\n" + "".join(
    f"u{user},i{(user + step) % 40},{step}\n" for user in range(12) for step in range(20)
)

# Plays the part of a whole experiment: a fleet with one process that would run for a minute.
PATIENT = """
import asyncio, pathlib, sys
from simulator import cli
from simulator.fleet import Fleet

async def patient(plan, display, metrics):
    out = pathlib.Path(sys.argv[-1])
    async with Fleet(out) as fleet:
        fleet.start("sleeper", "sleeper")
        (out / "metrics.json").touch()
        await fleet.while_alive(asyncio.sleep(60))

cli.plan, cli.perform = (lambda scenario, sites: None), patient
sys.argv = ["concerto", "run", "--out", sys.argv[-1]]
cli.main()
"""


@pytest.fixture
def concerto(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Concerto:
    """Runs ``concerto ...`` in an empty folder and gives its exit code and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONCERTO_CACHE", str(tmp_path / "cache"))

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["concerto", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), capsys.readouterr().err

    return run


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "shop.csv"
    path.write_text(LOG)
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--devices", "0"], "setting 'devices': expected greater than 0, got 0"),
        (["--method", "duett"], "unknown method 'duett': did you mean 'duet'"),
        (["--trunk", "sasrek"], "did you mean 'sasrec'"),
        (["--log", "movielens-100"], "did you mean 'movielens-100k'"),
        (["--log", "none.csv"], "none.csv"),
        (
            ["--split", "sideways"],
            "'split': expected 'user-tail', 'global-time' or 'leave-one-out'",
        ),
        (["--seeds", "0,x"], "expected numbers as in 0,1,2, got '0,x'"),
        (["--seeds", "0,1", "--seed", "1"], "not both"),
        (["--set", "train.epoch=1"], "did you mean 'train.epochs'"),
        (["--set", "train.epochs=many"], "train.epochs"),
        (["--set", "duet.max_lagg=1"], "did you mean 'duet.max_lag'"),
        (["--set", "cloud.codek=f32"], "did you mean 'cloud.codec'"),
        (["--set", "device.in_flihgt=1"], "did you mean 'device.in_flight'"),
        (["--set", "link=5gg"], "unknown link '5gg': did you mean '5g'"),
        (["--set", 'links=["wify"]'], "unknown link 'wify': did you mean 'wifi'"),
        (["--set", "link=none.csv"], "none.csv: no such file"),
        (["--set", "device.channel=mine"], "device.channel"),
        (["--set", "replay.moments=0"], "'replay.moments': expected greater than 0, got 0"),
        (["--scenario", "none.yaml"], "none.yaml: no such scenario file"),
        (["--device", "3"], "--devices"),
        (["--listen", "127.0.0.1:99999"], "'listen': write HOST:PORT"),
        (["--listen", "127.0.0.1"], "'listen': write HOST:PORT"),
        (["--cloud-host", "127.0.0.1:abc"], "'cloud-host': write HOST:PORT"),
    ],
)
def test_wrong_input_is_explained_in_a_line_and_leaves_nothing(
    concerto: Concerto, tmp_path: Path, arguments: list[str], words: str
) -> None:
    code, said = concerto("run", *arguments, "--out", "results")

    assert code == 2
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"user,item,time\n", "empty"),
        (b"who,item,time\n1,2,3\n", "no column 'user'"),
        (b"user,item,time\n1,2,-5\n1,3,4\n", "row 2"),
        (bytes(range(256)) * 8, "shop.csv"),
    ],
)
def test_a_log_that_cannot_be_used_is_explained_and_leaves_nothing(
    concerto: Concerto, tmp_path: Path, log: str, content: bytes, words: str
) -> None:
    Path(log).write_bytes(content)

    code, said = concerto("run", "--log", log, "--out", "results")

    assert code == 2
    assert words in said
    assert not (tmp_path / "results").exists()


def test_a_method_is_refused_before_a_log_is_read(concerto: Concerto) -> None:
    code, said = concerto("run", "--method", "duett", "--log", "none.csv")

    assert code == 2
    assert "duett" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--link", "6g"], "unknown link '6g'"),
        (["--link", "4g", "--listen", "nowhere"], "'listen': write HOST:PORT"),
        (["--counts", "no/such/counts.json"], "no/such: no such folder"),
        (["--counts", "."], "'counts': . is a folder: name a file in it"),
    ],
)
def test_a_proxy_that_cannot_be_is_explained(
    concerto: Concerto, arguments: list[str], words: str
) -> None:
    code, said = concerto("shape", "--to", "127.0.0.1:1", *arguments)

    assert code == 2
    assert words in said


def test_a_folder_without_a_bundle_is_told(concerto: Concerto, tmp_path: Path) -> None:
    code, said = concerto("inspect", str(tmp_path / "none"))

    assert code == 2
    assert "no such folder with a bundle" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_its_processes_and_says_so(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "sleeper.py").write_text("import time\nprint('awake')\ntime.sleep(60)\n")
    path = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    concerto = subprocess.Popen(
        [sys.executable, "-c", PATIENT, str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    sleeper = _child_that_wrote(concerto.pid, tmp_path / "out" / "sleeper.log")

    concerto.send_signal(number)
    _, said = concerto.communicate(timeout=30)

    assert concerto.returncode == 130
    assert said.splitlines() == [f"interrupted: what was measured until now lies in {tmp_path}/out"]
    assert not psutil.pid_exists(sleeper)


def test_an_interrupted_run_that_measured_nothing_says_so_whatever_an_earlier_one_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.json").touch()
    os.utime(tmp_path / "metrics.json", (0, 0))

    codes = [interrupted(folder).exit_code for folder in (tmp_path, tmp_path / "none")]

    assert codes == [130, 130]
    assert capsys.readouterr().err == "interrupted: nothing is measured yet\n" * 2


def _child_that_wrote(pid: int, log: Path) -> int:
    """The only child of ``pid``, once it has written to ``log``."""
    for _ in range(600):
        if log.exists() and log.read_text():
            (child,) = psutil.Process(pid).children()
            return child.pid
        time.sleep(0.05)
    raise AssertionError("the child did not start")
