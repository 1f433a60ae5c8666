"""A cloud on loopback that serves a tiny method."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from grpc import aio
from torch import Tensor, nn

from cloud_server.batcher import Batcher
from cloud_server.bundles import Bundles
from cloud_server.checkpoints import Trained
from cloud_server.server import listening
from cloud_server.settings import ServeSettings
from protos.v1.collaboration_pb2 import Answer, Ask, Hello
from protos.v1.collaboration_pb2_grpc import CollaborationStub
from shared_models.contract.bundle import Bundle, BundleStore
from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.method import Personalization, Uplinks

if TYPE_CHECKING:
    from protos.v1.collaboration_pb2_grpc import CollaborationAsyncStub

ITEMS, WINDOW, UPLINK = 50, 5, 7
SLOTS = {"head.weight": (4, 6), "head.bias": (6,)}


class TinyNetwork(nn.Module):
    """A recurrent layer and linear ones; the narrow one is what tells batches apart, see below."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(ITEMS + 1, 24)
        self.state = nn.GRU(24, 32, batch_first=True)
        self.hidden = nn.Linear(32, 64)
        self.slots = nn.Linear(64, 30)
        # A product with one column sums its last rows in another order, unless batches are padded.
        self.gate = nn.Linear(32, 1)

    def forward(self, windows: Tensor) -> Tensor:
        states, _ = self.state(self.items(windows))
        state = states[:, -1]
        slots: Tensor = self.slots(torch.relu(self.hidden(state))) * self.gate(state)
        return slots


@dataclass
class TinyMethod:
    """Writes slots and ranks; notes what it was asked, and stops at the gate while it is shut."""

    gate: threading.Event = field(default_factory=threading.Event)
    asked: list[Int64Array] = field(default_factory=list)
    name = "tiny"

    def __post_init__(self) -> None:
        self.gate.set()

    def personalize(self, model: nn.Module, uplinks: Uplinks) -> Personalization:
        self.asked.append(uplinks.items_BN)
        assert self.gate.wait(10)
        with torch.inference_mode():
            values = model(torch.from_numpy(uplinks.items_BN)).numpy()
        weights = values[:, :24].reshape(-1, 4, 6)
        return Personalization({"head.weight": weights, "head.bias": values[:, 24:]})

    def rank(
        self,
        model: nn.Module,
        windows: Int64Array,
        candidates: Int64Array,
        profile: Int64Array | None = None,
    ) -> Float32Array:
        assert profile is None
        self.asked.append(windows)
        with torch.inference_mode():
            state = model(torch.from_numpy(windows))[:, :24]
            items = model.get_parameter("items.weight")[torch.from_numpy(candidates)]
            scores: Float32Array = torch.einsum("bd,bcd->bc", state, items).numpy()
        return scores


class SilentMethod:
    """Offers nothing in the cloud."""

    name = "silent"


class Device:
    """One end of a session."""

    def __init__(self, stub: "CollaborationAsyncStub") -> None:
        self._call = stub.Session(timeout=20)
        self._seq = 0

    async def ask(self, **body: Any) -> Answer:
        self._seq += 1
        await self._call.write(Ask(seq=self._seq, **body))
        answer = await self._call.read()
        assert isinstance(answer, Answer), "the stream has ended"
        assert answer.seq == self._seq
        return answer

    async def hello(self, bundle: Bundle, *, user: int = 1, waits: bool = False) -> Answer:
        return await self.ask(hello=Hello(user=user, bundle_id=bundle.id, waits=waits))

    async def leave(self) -> None:
        await self._call.done_writing()
        assert await self._call.read() is aio.EOF


@dataclass
class Cloud:
    """A listening cloud, seen from outside."""

    address: str
    channel: aio.Channel
    stub: "CollaborationAsyncStub"

    @classmethod
    def dial(cls, address: str, channel: aio.Channel) -> "Cloud":
        return cls(address, channel, CollaborationStub(channel))

    def device(self) -> Device:
        return Device(self.stub)


OpenCloud = Callable[..., AbstractAsyncContextManager[Cloud]]


def make_bundle(method: str = "tiny", **fields: Any) -> Bundle:
    """A bundle without a real graph: the cloud never runs one."""
    manifest = {
        "method": method,
        "config": {},
        "log_hash": "0" * 64,
        "features": {"items": ITEMS, "window": WINDOW},
        "graphs": {"scorer": {"file": "scorer.onnx", "inputs": [], "outputs": []}},
        "slots": [{"name": name, "shape": shape} for name, shape in SLOTS.items()],
        "uplink": {"items": UPLINK},
        "uploads": True,
        **fields,
    }
    return Bundle.make(manifest, {"scorer.onnx": np.random.default_rng(0).bytes(300_000)})


def release(root: Path, bundle: Bundle) -> Bundle:
    store = BundleStore(root)
    store.add(bundle)
    (root / "models" / bundle.id).mkdir(parents=True)
    store.release(bundle)
    return bundle


@pytest.fixture(autouse=True)
def _no_graph_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests release holds no graphs."""
    monkeypatch.setattr("cloud_server.server.Bundles", partial(Bundles, proof=lambda _: None))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


@pytest.fixture
def bundle(root: Path) -> Bundle:
    """The released bundle of the tiny method."""
    return release(root, make_bundle())


@pytest.fixture
def method() -> TinyMethod:
    return TinyMethod()


@pytest.fixture
def network() -> TinyNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TinyNetwork().eval()


@pytest.fixture
def load_tiny(
    monkeypatch: pytest.MonkeyPatch, method: TinyMethod, network: TinyNetwork
) -> Callable[[Any], None]:
    """Have every model folder hold the tiny network under a method."""

    def load(instead: Any = method) -> None:
        trained = Trained(instead, network, log_hash="", seed=0)
        monkeypatch.setattr("cloud_server.models.load_checkpoint", lambda _: trained)

    load()
    return load


@pytest.fixture
def open_cloud(root: Path, load_tiny: object) -> OpenCloud:
    """A cloud over the released bundles, with settings of one's own."""

    @asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[Cloud]:
        own = {"bundles": root, "listen": "127.0.0.1:0", "device": "cpu", "replays": True}
        fields = {**own, **settings}
        async with (
            listening(ServeSettings(**fields)) as address,
            aio.insecure_channel(address) as channel,
        ):
            yield Cloud.dial(address, channel)

    return opened


Queued = Callable[[int], Awaitable[None]]


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> Queued:
    """Waits until so many refreshes wait for their batch."""
    batchers: list[Batcher[Any, Any]] = []
    plain = Batcher.__init__

    def remember(self: Any, *args: Any, **options: Any) -> None:
        plain(self, *args, **options)
        batchers.append(self)

    monkeypatch.setattr(Batcher, "__init__", remember)

    async def until(count: int) -> None:
        while sum(each.waiting for each in batchers if each.name == "personalize") < count:
            await asyncio.sleep(0.001)

    return until


@pytest.fixture
async def cloud(open_cloud: OpenCloud, bundle: Bundle) -> AsyncIterator[Cloud]:
    async with open_cloud() as opened:
        yield opened
