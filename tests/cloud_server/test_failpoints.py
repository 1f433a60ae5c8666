"""Places at which a drill kills the cloud: inert, until one is armed."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_server import failpoints
from cloud_server.failpoints import NAMES, arm, failpoint
from shared_models.contract.errors import BadSetting, UnknownName

ROOT = Path(__file__).parents[2]
COMES = """
import sys
from cloud_server.failpoints import arm, failpoint
arm(sys.argv[1])
for number in range(1, 4):
    print(number, flush=True)
    failpoint("answer.sent")
    failpoint("stop.begun")
"""


def come(armed: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", COMES, armed], cwd=ROOT, capture_output=True, text=True
    )
    return done.returncode, done.stdout.split()


@pytest.mark.parametrize(
    ("armed", "lived"), [("answer.sent", 1), ("answer.sent:2", 2), ("stop.begun:3", 3)]
)
def test_a_process_dies_where_and_when_it_was_told_to(armed: str, lived: int) -> None:
    code, said = come(armed)

    assert code == -signal.SIGKILL
    assert said == ["1", "2", "3"][:lived]


@pytest.mark.parametrize("armed", ["", "answer.sent:9", "memory.seeding"])
def test_a_process_that_does_not_come_there_lives(armed: str) -> None:
    assert come(armed) == (0, ["1", "2", "3"])


def test_nothing_is_armed_by_itself() -> None:
    assert failpoints._armed is None
    failpoint("answer.sent")


@pytest.mark.parametrize(
    "text", ["answer.sent:0", "answer.sent:-1", "answer.sent:", "stop.begun:x"]
)
def test_a_number_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="NTH"):
        arm(text)


def test_an_unknown_place_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UnknownName, match=r"journal\.before-commit"):
        arm("journal.before-comit")


def test_every_place_is_in_the_code_once_and_nothing_else_is() -> None:
    sources = [path.read_text() for path in (ROOT / "cloud_server").rglob("*.py")]
    found = [name for text in sources for name in re.findall(r'failpoint[(,]\s*"([^"]+)"', text)]
    found += [
        name for text in sources for name in re.findall(r'callback\(failpoint, "([^"]+)"', text)
    ]

    assert sorted(set(found)) == sorted(NAMES)
    assert len(NAMES) >= 20
    assert len(set(found)) == len(NAMES)
