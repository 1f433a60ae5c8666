"""What may be set about a device process: by option, in ``CONCERTO_DEVICE_...``, as JSON."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from device_client.allowance import LearningAllowance
from device_client.controller import OUTPUTS
from device_client.listing import RERANK
from shared_models.contract.bundle import LARGEST
from shared_models.contract.errors import BadSetting
from shared_models.contract.log_lines import LogFormat
from shared_models.contract.manifest import Between, Manifest, RankingSpec, RefreshRule
from shared_models.contract.security import ProcessIdentity, secured
from shared_models.contract.settings import validated

_NEVER = RefreshRule()
_OWN: Final = frozenset({"identity", "plaintext", "token"})
"""What no simulation may change."""


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("write HOST:PORT, such as 127.0.0.1:50051")
    return text


def _cache_folder() -> Path:
    """``$CONCERTO_CACHE``, or the user's own cache folder."""
    root = os.environ.get("CONCERTO_CACHE") or Path.home() / ".cache" / "concerto"
    return Path(root) / "devices"


Address = Annotated[str, AfterValidator(_address)]


class DeviceSettings(BaseSettings):
    """How a device process works. Frozen; an explicit value wins over the environment's."""

    model_config = SettingsConfigDict(
        env_prefix="CONCERTO_DEVICE_", frozen=True, extra="forbid", env_ignore_empty=True
    )

    cloud: Address = Field("127.0.0.1:50051", description="HOST:PORT of the cloud.")
    simulation: Address | None = Field(None, description="HOST:PORT that gives orders, if any.")
    identity: Path | None = Field(
        None, description="Folder of this process's identity; with one, all is mutual TLS."
    )
    plaintext: bool = Field(False, description="In clear, also to another machine.")
    token: Path | None = Field(
        None,
        description="File with a token of the user, read at each session's beginning, where no "
        "simulation gives any.",
    )
    bundles: Path = Field(default_factory=_cache_folder, description="Folder of fetched bundles.")
    providers: tuple[str, ...] = Field(
        ("CPUExecutionProvider",), min_length=1, description="Of onnxruntime, the best one first."
    )
    refresh: RefreshRule | None = Field(
        None, description="Over the manifest's rule; what it leaves out stays the manifest's."
    )
    between: Between | None = Field(
        None, description="Over what the manifest does with the cloud's list until the next one."
    )
    uplink_lag: NonNegativeInt = Field(
        0,
        description="For studies: an uplink ends this many events ago, so overlays have that age.",
    )
    learning: LearningAllowance = Field(
        LearningAllowance(), description="What learning may cost each device."
    )
    log: LogFormat = Field(LogFormat.TEXT, description="Lines on standard error: text or json.")
    seed: NonNegativeInt = Field(
        0, lt=2**64, description="Of what devices draw: the refresh rule random, and negatives."
    )
    in_flight: PositiveInt = Field(64, description="Users that rank at the same time.")
    open_sessions: PositiveInt = Field(
        128, description="Most sessions kept open; the longest unused one makes room."
    )
    channel: Literal["shared", "own"] = Field(
        "shared", description="Own: each session has a connection of its own, as a phone has."
    )
    upload_batch: PositiveInt = Field(16, description="Events that go up together.")
    outbox: PositiveInt = Field(10_000, description="Most events that wait for the cloud, a user.")
    bundle_bytes: PositiveInt = Field(
        LARGEST, description="Largest bundle that is fetched, packed or not."
    )
    graph_nodes: PositiveInt = Field(
        10_000, description="Newest nodes that a device keeps of its graph."
    )
    connect_s: PositiveFloat = Field(
        30.0, description="Seconds that a bundle's next bytes, or the simulation, may take."
    )
    deadline_s: PositiveFloat | None = Field(
        2.0, description="Seconds that the cloud may take for an ask. Replays have no deadline."
    )
    flush_s: PositiveFloat = Field(
        60.0, description="Seconds to wait for a missing cloud where events must leave."
    )

    history: Path | None = Field(
        None, description="Folder to write down in what the cloud acknowledges; none: nowhere."
    )

    @model_validator(mode="after")
    def _sessions_suffice(self) -> Self:
        if self.in_flight > self.open_sessions:
            raise ValueError(
                f"{self.in_flight} users in flight need as many sessions, not "
                f"{self.open_sessions}: raise open_sessions"
            )
        return self

    @property
    def crossing(self) -> int:
        """Most asks that are under way on one connection."""
        return 1 if self.channel == "own" else self.in_flight

    def protected(self, setting: str, address: str) -> ProcessIdentity | None:
        """What protects connections to ``address``, which ``setting`` names; None: nothing.

        Raises:
            InputError: nothing would, and nobody said so; or the identity cannot be used.
        """
        return secured(f"device.{setting}", address, self.identity, plaintext=self.plaintext)

    def measured(self, manifest: Manifest) -> tuple[str, ...]:
        """Outputs of a bundle's controller that its devices read.

        Raises:
            BadSetting: there are such, and the bundle has no controller.
        """
        asks, spec = OUTPUTS.get(self.rule(manifest).rule), self.ranking(manifest)
        chooses = RERANK if spec is not None and spec.between == "controller" else None
        return tuple(output for output in (asks, chooses) if output)

    def rule(self, manifest: Manifest) -> RefreshRule:
        """When devices of a bundle refresh: the manifest's word, field by field under ours.

        Raises:
            BadSetting: a rule that reads a controller, and the bundle has none.
        """
        if not manifest.asks:
            return _NEVER
        ours = self.refresh.model_dump(exclude_unset=True) if self.refresh else {}
        return _calibrated(manifest.refresh.model_copy(update=ours), manifest)

    def ranking(self, manifest: Manifest) -> RankingSpec | None:
        """What devices of a bundle do with what the cloud ranked: the manifest's word under ours.

        Raises:
            BadSetting: its controller is to choose, and the bundle has none.
        """
        spec = manifest.ranking
        if spec is None or self.between is None:
            return spec
        if self.between == "controller" and manifest.controller is None:
            raise BadSetting("device.between", "this bundle has no controller that could choose")
        return spec.model_copy(update={"between": self.between})

    def memory(self, manifest: Manifest) -> int:
        """Newest items that a device must remember for the scorer, the uplink and learning."""
        window, learning = manifest.features.window, manifest.learning
        uplink = 0
        if manifest.uplink and not manifest.uplink.pending:
            uplink = manifest.uplink.items + self.uplink_lag
        # Each event that is learned from has the window before it.
        return max(window, uplink, learning.rows + window if learning else 0)

    def overridden(self, text: str) -> "DeviceSettings":
        """These settings under those of a JSON object; an empty text changes nothing.

        Raises:
            BadSetting: ``text`` is no JSON object, or a value is wrong.
            UnknownName: a setting that does not exist.
        """
        if not text:
            return self
        try:
            fields = json.loads(text)
        except ValueError as error:
            raise BadSetting("device", f"not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise BadSetting("device", f"expected a JSON object, got {text!r}")
        for name in _OWN.intersection(fields):
            raise BadSetting(f"device.{name}", "is for the process itself to say")
        return validated(type(self), "device", _merged(self.model_dump(exclude_unset=True), fields))


def _calibrated(rule: RefreshRule, manifest: Manifest) -> RefreshRule:
    """``rule`` with its threshold, where it needs one and none was given."""
    output = OUTPUTS.get(rule.rule)
    if output is None:
        return rule
    if manifest.controller is None:
        raise BadSetting(
            "device.refresh.rule", f"{rule.rule} needs a controller, which this bundle has not"
        )
    if rule.threshold is not None:
        return rule
    threshold = manifest.controller.threshold(output, rule.share)
    return rule.model_copy(update={"threshold": threshold})


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for name, value in above.items():
        under = below.get(name)
        if isinstance(value, dict) and isinstance(under, dict):
            merged[name] = _merged(under, value)
    return merged
