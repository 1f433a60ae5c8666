"""Where torch computes, as users say it."""

import pytest
import torch

from cloud_server.hardware import choose_device
from shared_models.contract.errors import BadSetting


@pytest.mark.parametrize(
    ("wanted", "there", "chosen"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_a_gpu_is_taken_where_there_is_one(
    wanted: str, there: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)

    assert choose_device(wanted) == torch.device(chosen)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(BadSetting, match=r"'cloud\.device': torch finds no GPU here"):
        choose_device("cuda", "cloud.device")
