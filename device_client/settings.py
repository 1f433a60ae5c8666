"""How a device process behaves; a simulation may set it for all of them."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from shared_models.contract.bundle import RefreshRule


class DeviceSettings(BaseModel):
    """Settings of every virtual device in a process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    refresh: RefreshRule | None = Field(
        None, description="When to ask for slot values; by default as the bundle says."
    )
    uplink_lag: NonNegativeInt = Field(
        0, description="Events by which uplinks lag, so that overlays are that old: for studies."
    )
    in_flight: PositiveInt = Field(64, description="Users who are ranked for at the same time.")
    open_sessions: PositiveInt = Field(
        128, description="Open sessions; the one idle longest is closed before another opens."
    )
    upload_batch: PositiveInt = Field(16, description="Events in an upload.")
    flush_s: float = Field(60.0, ge=0, description="Seconds to try to hand over the last events.")
    fetch_s: float = Field(30.0, gt=0, description="Seconds to wait for a cloud at the start.")
    providers: tuple[str, ...] = Field(
        ("CPUExecutionProvider",), description="Execution providers of onnxruntime, best first."
    )


def default_bundles(cache: str | None, home: Path) -> Path:
    """Where a device keeps bundles: below ``$CONCERTO_CACHE``, or the user's own cache."""
    return (Path(cache) if cache else home / ".cache" / "concerto") / "devices"
