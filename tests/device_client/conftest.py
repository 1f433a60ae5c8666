"""A hand-made bundle, its scorer, and clouds that check what a device asks."""

from pathlib import Path

import pytest

from device_client.ledger import DeviceLedger
from device_client.scorer import Scorer
from device_client.settings import DeviceSettings
from shared_models.contract.bundle import Bundle
from tests.device_client.fakes import FakeCloud, build_bundle


@pytest.fixture
def bundle() -> Bundle:
    return build_bundle()


@pytest.fixture
def scorer(bundle: Bundle) -> Scorer:
    return Scorer(bundle)


@pytest.fixture
def settings(tmp_path: Path) -> DeviceSettings:
    return DeviceSettings(bundles=tmp_path / "bundles", deadline_s=None, connect_s=5, flush_s=5)


@pytest.fixture
def cloud(bundle: Bundle) -> FakeCloud:
    return FakeCloud(bundle)


@pytest.fixture
def ledger() -> DeviceLedger:
    return DeviceLedger()
