"""How many asks share a pass of the cloud's ranker."""

from pathlib import Path

import pytest

from cloud_server import ranker
from cloud_server.ranker import CloudRanker
from cloud_server.settings import ServeSettings
from protos.v1.collaboration_pb2 import Rank
from tests.cloud_server.conftest import TinyMethod, TinyNetwork, make_bundle


@pytest.mark.parametrize(
    ("candidates", "passes"), [(1, [24]), (3, [16, 8]), (4, [8, 8, 8]), (20, [8, 8, 8])], ids=str
)
async def test_passes_are_full_and_bounded(
    candidates: int, passes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranker, "_MOST_SCORES", 50)
    method = TinyMethod()
    settings = ServeSettings(bundles=tmp_path)
    asking = CloudRanker(method, TinyNetwork(), make_bundle().manifest, settings)
    asked = ranker._Asked(Rank(items=[3], candidates=range(1, candidates + 1)), ())

    scores = asking._rank([asked] * 20)
    await asking.close()

    assert len(scores) == 20
    assert [len(windows) for windows in method.asked] == passes
