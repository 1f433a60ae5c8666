"""A whole run over mutual TLS, of real processes."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shared_models.contract.security import Role
from tests.e2e.conftest import Run, command
from tests.identities import Authority
from tests.runs import comparable, payload

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]
SHORT = ("--method", "duet", "--devices", "2", "--set", "replay.moments=600")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority.make(tmp_path_factory.mktemp("tls"))
    for role in Role:
        made.add(role, role)
    return made


@pytest.fixture(scope="module")
def both(
    concerto_run: Run, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The same run in clear and over mutual TLS: folders and metrics."""
    runs = tmp_path_factory.mktemp("runs")
    options = {"clear": (), "tls": ("--tls", str(authority.folder))}
    return {
        name: (runs / name, concerto_run(runs / name, *SHORT, *more))
        for name, more in options.items()
    }


def test_metrics_and_payload_are_the_same_over_tls_as_in_clear(
    both: dict[str, tuple[Path, dict[str, Any]]],
) -> None:
    (clear_out, clear), (tls_out, tls) = both["clear"], both["tls"]

    assert comparable(tls) == comparable(clear)
    assert payload(tls_out).equals(payload(clear_out))


def test_devices_proved_each_session_with_a_token(
    both: dict[str, tuple[Path, dict[str, Any]]],
) -> None:
    def control(out: Path) -> pl.DataFrame:
        rows = pl.read_parquet(out / "exchanges-duet-0.parquet")
        return rows.filter(pl.col("purpose") == "control")

    clear, tls = control(both["clear"][0]), control(both["tls"][0])
    assert clear["bytes_up"].max() < 200 < tls["bytes_up"].min()
    assert set(tls["user"]) == set(clear["user"])


@pytest.mark.parametrize("option", ["--cloud", "--simulation"])
def test_a_device_is_told_what_another_machine_takes(option: str, tmp_path: Path) -> None:
    done = command("device_client.cli", "run", option, "elsewhere:50051", cache=tmp_path)

    assert done.returncode == 2
    assert "elsewhere:50051 reaches beyond this machine: give --identity DIR" in done.stderr


def test_a_run_with_an_identity_missing_ends_before_anything_is_done(tmp_path: Path) -> None:
    folder = Authority.make(tmp_path / "tls").folder
    done = command(
        "simulator.cli", "run", "--tls", str(folder), "--out", str(tmp_path / "out"), cache=tmp_path
    )

    assert done.returncode == 2
    assert "cloud: no such folder of an identity" in done.stderr
    assert not (tmp_path / "out").exists()
