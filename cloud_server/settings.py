"""What may be set about a serving cloud: by option, or in ``CONCERTO_CLOUD_...`` variables."""

from pathlib import Path

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cloud_server.recipe import Place
from shared_models.contract.log_lines import LogFormat
from shared_models.contract.tensors import Codec


class ServeSettings(BaseSettings):
    """How a cloud serves. Frozen; an explicit value wins over the environment's."""

    model_config = SettingsConfigDict(
        env_prefix="CONCERTO_CLOUD_", frozen=True, extra="forbid", env_ignore_empty=True
    )

    bundles: Path = Field(description="Folder with bundles, their models and releases.")
    listen: str = Field("127.0.0.1:50051", description="HOST:PORT; port 0 takes a free one.")
    identity: Path | None = Field(
        None, description="Folder of the cloud's identity; with one, everything is mutual TLS."
    )
    plaintext: bool = Field(False, description="In clear, to whoever comes, also off loopback.")
    journal: Path | None = Field(None, description="Uploaded events; by default with the bundles.")
    replays: bool = Field(
        False,
        description="Take part in a replay: its devices say which round it is, and wait for as "
        "long as it takes. Only where all devices are the simulator's.",
    )
    history: PositiveInt = Field(
        1000, description="Newest uploaded events of each user that the cloud keeps."
    )
    memory: Path | None = Field(
        None,
        description="Folder for what is remembered of users; without one it lasts as long as the "
        "process.",
    )
    contributions: Path | None = Field(
        None, description="What devices learnt together; by default beside the journal."
    )
    ledger: Path | None = Field(None, description="Parquet file to account for exchanges in.")
    metrics: str | None = Field(
        None,
        coerce_numbers_to_str=True,
        description="HOST:PORT that Prometheus may scrape, or PORT of this machine alone.",
    )
    log: LogFormat = Field(LogFormat.TEXT, description="Lines on standard error: text or json.")
    device: Place = Field("auto", description="Where torch computes.")
    codec: Codec = Field(Codec.F16, description="How generated parameters travel.")
    largest_batch: PositiveInt = Field(64, description="Most asks in one forward pass or commit.")
    room: PositiveInt = Field(1024, description="Most asks that wait for one of these.")
    patience_s: PositiveFloat = Field(
        1.0,
        description="Seconds that an ask may wait for its turn, half of what a device waits for "
        "its answer; a replay's waits as long as it takes.",
    )
    pace: PositiveInt = Field(
        1000, description="Most asks of a user in pace_s seconds; a replay's wait for their turn."
    )
    pace_s: PositiveFloat = Field(1.0, description="Seconds in which so many asks may come.")
    sessions: PositiveInt = Field(20_000, description="Most sessions that are open.")
    largest_list: PositiveInt = Field(
        10_000, description="Most ids or events in one ask; uploads of devices have up to 1,000."
    )
    message_bytes: PositiveInt = Field(4 << 20, description="Largest message, either way.")
    keepalive_s: PositiveFloat = Field(30.0, description="Seconds until a silent device is pinged.")
    ping_floor_s: PositiveFloat = Field(
        5.0, description="Seconds between pings that a device may send without being cut off."
    )
    release_poll_s: PositiveFloat = Field(1.0, description="Seconds between looks for a release.")
    grace_s: NonNegativeFloat = Field(0.25, description="Seconds that last answers have to leave.")

    @field_validator("listen")
    @classmethod
    def _is_an_address(cls, listen: str) -> str:
        host, _, port = listen.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError("write HOST:PORT, such as 127.0.0.1:50051")
        return listen

    @property
    def journal_path(self) -> Path:
        """Where uploaded events go."""
        return self.journal or self.bundles / "journal.sqlite"

    @property
    def contributions_path(self) -> Path:
        """Where contributions go."""
        return self.contributions or self.journal_path.with_name("contributions.sqlite")
