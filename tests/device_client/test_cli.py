"""The command that a user types."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared_models.contract.bundle import Bundle
from tests.device_client.fakes import LoopbackCloud, expected_scores, head, serving

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "device_client.cli", "run"]
IMPORT_ALL = """
import importlib, pkgutil, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "polars", "onnx"}:
            raise ImportError(f"{name} is not for devices")
sys.meta_path.insert(0, Blocker())
import device_client
for module in pkgutil.iter_modules(device_client.__path__, "device_client."):
    importlib.import_module(module.name)
    print(module.name)
"""


async def run(bundle: Bundle, folder: Path, lines: str, *options: str) -> tuple[int, str, str]:
    async with serving(LoopbackCloud(bundle)) as address:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "--cloud", address, "--bundles", str(folder), *options,
            cwd=ROOT, stdin=-1, stdout=-1, stderr=-1,
        )  # fmt: skip
        out, err = await process.communicate(lines.encode())
    return process.returncode or 0, out.decode(), err.decode()


def test_no_module_of_a_device_needs_torch_polars_or_onnx() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "device_client.agent" in done.stdout.split()


async def test_json_lines_are_answered_by_json_lines(bundle: Bundle, tmp_path: Path) -> None:
    lines = '{"user": 1, "observe": 2, "at": 1.5}\n\n{"user": 1, "rank": [3, 7, 9], "at": 2}\n'

    code, out, err = await run(bundle, tmp_path, lines)

    assert code == 0, err
    observed, ranking = map(json.loads, out.splitlines())
    assert observed == {"user": 1, "events_seen": 1}
    assert sorted(ranking["items"]) == [3, 7, 9]
    assert ranking["scores"] == sorted(ranking["scores"], reverse=True)
    by_item = dict(zip(ranking["items"], ranking["scores"], strict=True))
    wanted = expected_scores([2], [3, 7, 9], head(0.5))
    assert [by_item[item] for item in (3, 7, 9)] == pytest.approx(wanted.tolist(), abs=1e-5)
    assert (ranking["source"], ranking["overlay_age"]) == ("overlay", 0)
    assert (ranking["bundle"], ranking["decision"]) == (bundle.id, "refresh")


async def test_the_log_goes_to_standard_error_as_json_where_that_is_asked_for(
    bundle: Bundle, tmp_path: Path
) -> None:
    code, out, err = await run(bundle, tmp_path, '{"user": 1, "rank": [3]}\n', "--log", "json")

    assert code == 0, err
    assert len(out.splitlines()) == 1
    events = [json.loads(line)["event"] for line in err.splitlines()]
    assert "ready" in events


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("junk", "line 1, whole line"),
        ('{"user": 1}', "give candidates to rank, or an item to observe"),
        ('{"user": -1, "observe": 3}', "line 1, user"),
        ('{"user": 1, "observe": 3, "at": "late"}', "line 1, at"),
        ('{"user": 4294967296, "observe": 3}', "line 1, user"),
        ('{"user": 1, "observe": 4294967296}', "line 1, observe"),
        ('{"user": 1, "rank": [3, 9223372036854775808]}', "line 1, rank.1"),
    ],
)
async def test_a_wrong_line_is_named(bundle: Bundle, tmp_path: Path, line: str, words: str) -> None:
    code, _, err = await run(bundle, tmp_path, line + "\n")

    assert code == 2
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cloud", "nowhere"], "HOST:PORT"),
        (["--set", "in_fligt=3"], "did you mean 'device.in_flight'"),
        (["--set", "in_flight"], "path.to.setting=value"),
        (["--cloud", "127.0.0.1:1", "--set", "connect_s=0.2"], "127.0.0.1:1 did not answer"),
        (["--simulation", "127.0.0.1:1", "--set", "connect_s=0.2"], "no simulation answers"),
    ],
)
def test_wrong_input_ends_with_a_message_and_code_2(options: list[str], words: str) -> None:
    done = subprocess.run(
        [*COMMAND, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        input="",
        check=False,
    )

    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


async def test_ctrl_c_ends_a_waiting_device_at_once(bundle: Bundle, tmp_path: Path) -> None:
    async with serving(LoopbackCloud(bundle)) as address:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "--cloud", address, "--bundles", str(tmp_path),
            cwd=ROOT, stdin=-1, stdout=-1, stderr=-1, env={**os.environ},
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"user": 1, "observe": 2}\n')
        await process.stdout.readline()

        process.send_signal(signal.SIGINT)

        async with asyncio.timeout(10):
            _, err = await process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in err
