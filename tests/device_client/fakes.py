"""A hand-made bundle, and clouds behind the seam that check what a device asks."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import onnx
from grpc import aio
from onnx import TensorProto, helper, numpy_helper

from device_client.cloud import Identity, Piece
from device_client.controller import OUTPUTS
from protos.v1 import collaboration_pb2 as wire
from protos.v1.collaboration_pb2_grpc import (
    CollaborationServicer,
    add_CollaborationServicer_to_server,
)
from shared_models.contract.arrays import arrays_to_bytes
from shared_models.contract.bundle import DEFAULTS, TEST_VECTOR, Bundle, pack, unpack
from shared_models.contract.errors import CloudUnavailable, TokenRefused
from shared_models.contract.events import EventBatch
from shared_models.contract.features import PRIOR, FeatureSpec
from shared_models.contract.federation import Contribution, Outcome, Settled
from shared_models.contract.overlay import Overlay, overlay_to_proto
from shared_models.contract.ranking import RankedList, Receipt, Wanted
from shared_models.contract.tensors import Codec, Float32Array, TensorSpec, tensor_to_proto
from shared_models.contract.uplink import Uplink

ITEMS, WIDTH, WINDOW = 20, 4, 5
SLOT = "head.weight"
RECEIPT = Receipt(ask=1, bytes_up=20, bytes_down=80, seconds=0.001)


def _table() -> Float32Array:
    table = np.random.default_rng(0).standard_normal((ITEMS + 1, WIDTH)).astype(np.float32)
    table[0] = 0
    return table


def expected_scores(
    window: Sequence[int], candidates: Sequence[int], head: Float32Array | None = None
) -> Float32Array:
    """What the graph computes, in numpy: mean of the window, times the head, times each item."""
    table, head = _table(), np.eye(WIDTH, dtype=np.float32) if head is None else head
    padded = np.zeros(WINDOW, np.int64)
    padded[: len(window)] = window
    return np.asarray(table[list(candidates)] @ (table[padded].mean(0) @ head), np.float32)


def _port(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _graph(*, prior: bool = False) -> bytes:
    nodes = [
        helper.make_node("Gather", ["table", "event_ids"], ["events"]),
        helper.make_node("ReduceMean", ["events", "axis_1"], ["mean"], keepdims=1),
        helper.make_node("MatMul", ["mean", SLOT], ["state"]),
        helper.make_node("Transpose", ["state"], ["column"], perm=[0, 2, 1]),
        helper.make_node("Gather", ["table", "candidate_ids"], ["items"]),
        helper.make_node("MatMul", ["items", "column"], ["deep"]),
        helper.make_node("Squeeze", ["deep", "axis_2"], ["own" if prior else "scores"]),
        *([helper.make_node("Add", ["own", PRIOR], ["scores"])] if prior else []),
    ]
    graph = helper.make_graph(
        nodes,
        "scorer",
        [
            _port("event_ids", TensorProto.INT64, "batch", "length"),
            _port("candidate_ids", TensorProto.INT64, "batch", "choice"),
            *([_port(PRIOR, TensorProto.FLOAT, "batch", "choice")] if prior else []),
            _port(SLOT, TensorProto.FLOAT, WIDTH, WIDTH),
        ],
        [_port("scores", TensorProto.FLOAT, "batch", "choice")],
        [
            numpy_helper.from_array(_table(), "table"),
            numpy_helper.from_array(np.array([1]), "axis_1"),
            numpy_helper.from_array(np.array([2]), "axis_2"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _controller() -> bytes:
    """``change`` and ``gain``, both the largest difference of the two windows."""
    nodes = [
        helper.make_node("Sub", ["event_ids", "refreshed_ids"], ["moved"]),
        helper.make_node("Abs", ["moved"], ["far"]),
        helper.make_node("Cast", ["far"], ["length"], to=TensorProto.FLOAT),
        *(
            helper.make_node("ReduceMax", ["length", "axis"], [o], keepdims=0)
            for o in OUTPUTS.values()
        ),
    ]
    inputs = [
        _port(n, TensorProto.INT64, "batch", "length") for n in ("event_ids", "refreshed_ids")
    ]
    outputs = [_port(name, TensorProto.FLOAT, "batch") for name in OUTPUTS.values()]
    axis = numpy_helper.from_array(np.array([1]), "axis")
    graph = helper.make_graph(nodes, "controller", inputs, outputs, [axis])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _test_vector(*, prior: bool = False) -> dict[str, Any]:
    events = np.array([[1, 2, 3, 0, 0], [0, 0, 0, 0, 0]])
    candidates = np.array([[4, 5, 6], [7, 8, 9]])
    head = np.arange(WIDTH * WIDTH, dtype=np.float32).reshape(WIDTH, WIDTH) / 10
    scores = [expected_scores(e, c, head) for e, c in zip(events, candidates, strict=True)]
    thought = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    return {
        "event_ids": events,
        "candidate_ids": candidates,
        SLOT: head,
        **({PRIOR: thought} if prior else {}),
        "scores": np.array(scores, np.float32) + prior * thought,
    }


def build_bundle(
    *,
    test_vector: dict[str, Any] | None = None,
    graph: bytes | None = None,
    prior: bool = False,
    controlled: bool = False,
    **manifest: Any,
) -> Bundle:
    slot = TensorSpec(name=SLOT, shape=(WIDTH, WIDTH))
    ports = [
        TensorSpec(name="event_ids", dtype="int64", shape=("batch", "length")),
        TensorSpec(name="candidate_ids", dtype="int64", shape=("batch", "choice")),
        *([TensorSpec(name=PRIOR, shape=("batch", "choice"))] if prior else []),
        slot,
    ]
    fields = {
        "method": "tiny",
        "config": {},
        "log_hash": "0" * 64,
        "features": FeatureSpec(items=ITEMS, window=WINDOW, prior=prior),
        "graphs": {
            "scorer": {
                "file": "scorer.onnx",
                "inputs": ports,
                "outputs": [TensorSpec(name="scores", shape=("batch", "choice"))],
            }
        },
        "slots": [slot],
        "refresh": {"rule": "always"},
        "uplink": {"items": 3},
        **manifest,
    }
    files = {}
    if controlled:
        graph_spec = {"file": "controller.onnx", "inputs": [], "outputs": []}
        fields["graphs"] = {**fields["graphs"], "controller": graph_spec}
        fields["controller"] = {"calibration": dict.fromkeys(OUTPUTS.values(), (0.5,))}
        files["controller.onnx"] = _controller()
    files |= {
        "scorer.onnx": graph or _graph(prior=prior),
        DEFAULTS: arrays_to_bytes({SLOT: np.eye(WIDTH, dtype=np.float32)}),
        TEST_VECTOR: arrays_to_bytes(test_vector or _test_vector(prior=prior)),
    }
    return Bundle.make(fields, files)


def head(value: float) -> Float32Array:
    return np.full((WIDTH, WIDTH), value, np.float32)


class FakeCloud:
    """A cloud in the same process, which insists on what the contract promises it.

    Attributes:
        away: while true every call fails.
        refuses_tokens: while true no session is opened, since its token has ended.
        heads: what the next refreshes get; the last one stays.
        refreshes: (user, items, events_seen, at) of each refresh.
        uplinks: what each of them brought.
        groups: the user's group at the next refreshes; the last one stays.
        asked_groups: whose slot values were asked for.
        journal: items of each user, stored once whatever is sent twice.
        batches: how many events each upload brought.
        lose_acknowledgements: store what comes next, and let the answer get lost.
        version: of what everybody shares, which is `shared_head`.
        had: the versions that devices had when they asked for it.
        sent: every contribution that came, also twice.
        contributions: the accepted ones of each user.
        outcomes: what the next contributions are answered with; then they are accepted.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.away, self.refuses_tokens = bundle, False, False
        self.heads: list[Float32Array] = [head(0.5)]
        self.refreshes: list[tuple[int, list[int], int, float]] = []
        self.journal: dict[int, list[int]] = {}
        self.uplinks: list[Uplink] = []
        self.groups, self.asked_groups = [0], list[int]()
        self.batches: list[int] = []
        self.lose_acknowledgements = 0
        self.version, self.shared_head = 0, np.eye(WIDTH, dtype=np.float32)
        self.had: list[int | None] = []
        self.wanted: list[Wanted] = []
        self.sent: list[Contribution] = []
        self.contributions: dict[int, list[Contribution]] = {}
        self.outcomes: list[Outcome] = []

    def _check(self, who: Identity) -> None:
        if self.away:
            raise CloudUnavailable("away")
        if self.refuses_tokens:
            raise TokenRefused("the token has expired: ask for a new one")
        assert who.bundle_id == self.bundle.id

    async def released(self, method: str) -> str:
        assert method in ("", self.bundle.manifest.method)
        return self.bundle.id

    async def fetch_bundle(self, bundle_id: str, offset: int) -> AsyncGenerator[Piece, None]:
        assert bundle_id == self.bundle.id
        data = pack(self.bundle)
        yield Piece(offset, data[offset:], len(data))

    async def refresh(
        self, who: Identity, uplink: Uplink, events_seen: int, at: float
    ) -> tuple[Overlay, Receipt]:
        self._check(who)
        spec = self.bundle.manifest.uplink
        assert spec is not None
        assert len(uplink.items) <= spec.items
        assert all(isinstance(item, int) for item in uplink.items)
        self.refreshes.append((who.user, list(uplink.items), events_seen, at))
        self.uplinks.append(uplink)
        stored = 0 if uplink.pending is None else self._store(who, uplink.pending)
        value = self.heads.pop(0) if len(self.heads) > 1 else self.heads[0]
        group = self.groups.pop(0) if len(self.groups) > 1 else self.groups[0]
        return Overlay(who.bundle_id, events_seen, {SLOT: value}, group, stored), RECEIPT

    async def group(
        self, who: Identity, number: int, events_seen: int, at: float
    ) -> tuple[Overlay, Receipt]:
        self._check(who)
        assert at >= 0
        self.asked_groups.append(number)
        return Overlay(who.bundle_id, events_seen, {SLOT: head(100.0 * number)}), RECEIPT

    async def shared(
        self, who: Identity, have: int | None, events_seen: int, at: float
    ) -> tuple[Overlay, Receipt]:
        self._check(who)
        assert at >= 0
        self.had.append(have)
        slots = {} if have == self.version else {SLOT: self.shared_head}
        told = Overlay(who.bundle_id, events_seen, slots, version=self.version)
        return told, RECEIPT

    async def contributions_stored(self, who: Identity) -> int:
        self._check(who)
        return len(self.contributions.get(who.user, []))

    async def contribute(
        self, who: Identity, contribution: Contribution, at: float
    ) -> tuple[Settled, Receipt]:
        self._check(who)
        assert at >= 0
        stored = self.contributions.setdefault(who.user, [])
        self.sent.append(contribution)
        assert contribution.sequence <= len(stored), "a gap"
        outcome = self.outcomes.pop(0) if self.outcomes else Outcome.ACCEPTED
        if contribution.sequence < len(stored):
            outcome = Outcome.DUPLICATE
        elif outcome is Outcome.ACCEPTED:
            stored.append(contribution)
        if self.lose_acknowledgements:
            self.lose_acknowledgements -= 1
            raise CloudUnavailable("the answer got lost")
        return Settled(outcome, len(stored)), RECEIPT

    async def rank(
        self, who: Identity, wanted: Wanted, events_seen: int, at: float
    ) -> tuple[RankedList, Receipt]:
        self._check(who)
        assert len(wanted.window) <= WINDOW
        assert at >= 0
        self.wanted.append(wanted)
        items = np.array(wanted.candidates or range(1, wanted.retrieve + 1), np.int64)
        return RankedList(items, np.arange(len(items), dtype=np.float32), events_seen), RECEIPT

    async def events_stored(self, who: Identity) -> int:
        self._check(who)
        return len(self.journal.get(who.user, []))

    async def upload(self, who: Identity, batch: EventBatch) -> int:
        self._check(who)
        self.batches.append(len(batch.events))
        assert batch.events
        return self._store(who, batch)

    def _store(self, who: Identity, batch: EventBatch) -> int:
        stored = self.journal.setdefault(who.user, [])
        assert batch.first <= len(stored), "a gap"
        stored += [event.item for event in batch.events[len(stored) - batch.first :]]
        if self.lose_acknowledgements:
            self.lose_acknowledgements -= 1
            raise CloudUnavailable("the answer got lost")
        return len(stored)


class LoopbackCloud(CollaborationServicer):
    """A servicer that keeps what it saw, and can be told to misbehave.

    Attributes:
        asks: all asks but hellos, in order.
        sizes: (bytes of the ask, bytes of the answer) by kind.
        offsets: where each download began.
        break_after: bytes after which each of the next downloads breaks.
        flips: how many of the next downloads carry a wrong byte.
        fault: what refreshes are answered with instead of an overlay.
        stall: while true, refreshes are never answered.
        releases: what is announced after the first bundle, one after the other.
    """

    def __init__(self, bundle: Bundle, releases: Sequence[Bundle] = ()) -> None:
        self.releases = releases
        self.bundle, self.packed = bundle, pack(bundle)
        assert unpack(self.packed, bundle.id).id == bundle.id
        self.hellos: list[wire.Ask] = []
        self.asks: list[wire.Ask] = []
        self.sizes: dict[str, tuple[int, int]] = {}
        self.offsets: list[int] = []
        self.break_after: list[int] = []
        self.flips = 0
        self.fault: wire.Fault | None = None
        self.stall = self.hang_up = False
        self.open_streams = 0
        self.bundle_sizes = [0, 0]

    async def Session(  # noqa: N802
        self, request_iterator: AsyncIterator[wire.Ask], _context: Any
    ) -> AsyncIterator[wire.Answer]:
        self.open_streams += 1
        try:
            async for ask in request_iterator:
                if self.hang_up:
                    self.hang_up = False
                    return
                while self.stall and ask.HasField("refresh"):
                    await asyncio.sleep(0.01)
                answer = self._answer(ask)
                self._account(ask, answer)
                yield answer
        finally:
            self.open_streams -= 1

    def _answer(self, ask: wire.Ask) -> wire.Answer:
        kind = ask.WhichOneof("body")
        if kind == "hello":
            self.hellos.append(ask)
            return wire.Answer(seq=ask.seq, welcome=wire.Welcome(events_stored=7))
        self.asks.append(ask)
        if kind == "refresh" and self.fault:
            return wire.Answer(seq=ask.seq, fault=self.fault)
        if kind == "refresh":
            overlay = Overlay(self.bundle.id, ask.refresh.events_seen, {SLOT: head(0.5)})
            return wire.Answer(seq=ask.seq, overlay=overlay_to_proto(overlay, Codec.F16))
        if kind == "rank":
            scores = np.arange(len(ask.rank.candidates), dtype=np.float32)
            values = tensor_to_proto("scores", scores, Codec.F32)
            return wire.Answer(seq=ask.seq, scores=wire.Scores(values=values))
        stored = ask.upload.first + len(ask.upload.items)
        return wire.Answer(seq=ask.seq, stored=wire.Stored(events_stored=stored))

    def _account(self, ask: wire.Ask, answer: wire.Answer) -> None:
        kind = ask.WhichOneof("body") or ""
        up, down = self.sizes.get(kind, (0, 0))
        self.sizes[kind] = (up + ask.ByteSize(), down + answer.ByteSize())

    async def FetchBundle(  # noqa: N802
        self, request: wire.BundleRequest, context: Any
    ) -> AsyncIterator[wire.Chunk]:
        bundles = {bundle.id: bundle for bundle in (self.bundle, *self.releases)}
        if request.id not in bundles:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such bundle.")
        self.offsets.append(request.offset)
        data = bytearray(pack(bundles[request.id]))
        if self.flips:
            self.flips -= 1
            data[len(data) // 2] ^= 1
        stop = request.offset + self.break_after.pop(0) if self.break_after else len(data)
        for start in range(request.offset, min(stop, len(data)), 100):
            piece = bytes(data[start : min(start + 100, stop)])
            yield wire.Chunk(offset=start, data=piece, total=len(data))
        if stop < len(data):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the tunnel")

    async def WatchReleases(  # noqa: N802
        self, request: wire.ReleasesRequest, context: Any
    ) -> AsyncIterator[wire.Release]:
        if request.method not in ("", self.bundle.manifest.method):
            await context.abort(grpc.StatusCode.NOT_FOUND, "No such method.")
        for bundle in (self.bundle, *self.releases):
            yield wire.Release(method=self.bundle.manifest.method, bundle_id=bundle.id)
        await asyncio.sleep(60)


@asynccontextmanager
async def serving(servicer: LoopbackCloud, port: int = 0) -> AsyncIterator[str]:
    """Serve on loopback; gives the address. The end is as sudden as a kill."""
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    add_CollaborationServicer_to_server(servicer, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(grace=None)
