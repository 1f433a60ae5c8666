"""The cloud that a run keeps up: what becomes of one that does not come up."""

import os
from pathlib import Path

import pytest

from shared_models.contract.errors import RunFailed
from simulator import keeper as keeper_module
from simulator.fleet import Fleet
from simulator.keeper import CloudKeeper

MUTE = """
import time
print("taking my time", flush=True)
time.sleep(20)
"""


async def test_a_cloud_that_lives_and_is_not_ready_in_time_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mute_cloud.py").write_text(MUTE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path.cwd())]))
    monkeypatch.setattr(keeper_module, "_READY_S", 1.0)

    async with Fleet(tmp_path / "logs") as fleet:
        keeper = CloudKeeper(fleet, "cloud", ["mute_cloud", "--listen", "127.0.0.1:0"])
        with pytest.raises(RunFailed, match="cloud is not ready after 1 s"):
            await keeper.start()

        assert keeper.process is not None
        assert not keeper.process.ended
