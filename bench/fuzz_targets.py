"""Everything that is parsed from outside, as functions of bytes, each with inputs to begin with.

A target may refuse its input with one of our errors. Anything else that it raises is a finding.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import numpy as np
import polars as pl
import yaml
from google.protobuf.message import DecodeError, Message

from device_client.lines import read_lines
from protos.v1 import collaboration_pb2 as wire
from shared_models.contract.arrays import arrays_from_bytes, arrays_to_bytes
from shared_models.contract.bundle import unpack
from shared_models.contract.errors import BadAsk, ConcertoError
from shared_models.contract.federation import settled_from_proto
from shared_models.contract.manifest import parse_manifest
from shared_models.contract.overlay import overlay_from_proto
from shared_models.contract.settings import parse_settings
from shared_models.contract.tensors import Codec, tensor_from_proto, tensor_to_proto
from shared_models.logs.files import Columns, read_file
from shared_models.logs.graphs.read import read_graph
from shared_models.logs.prepared import open_log
from shared_models.logs.rows.criteo import read_values
from shared_models.logs.tables.read import FORMATS, read_tables
from simulator.compose import compose
from simulator.links import read_trace

Parse = Callable[[bytes], object]
_SCRATCH: Final = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108 - memory


@dataclass(frozen=True, slots=True)
class Target:
    """A parser, inputs that it takes, and the share of all mutated ones that it has time for."""

    parse: Parse
    seeds: Sequence[bytes]
    share: float = 1

    def __call__(self, data: bytes) -> None:
        """Parse ``data``; being refused is fine."""
        with suppress(ConcertoError):
            self.parse(data)


def _file(suffix: str, read: Callable[[Path], object]) -> Parse:
    """Parse bytes by what reads a file."""
    path = Path(mkdtemp(prefix="fuzz-", dir=_SCRATCH)) / f"input{suffix}"

    def parse(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return parse


def _ask(data: bytes) -> object:
    """What a cloud reads of any ask."""
    ask = _parsed(wire.Ask, data)
    for tensor in (*ask.refresh.outputs, *ask.contribute.deltas):
        tensor_from_proto(tensor)
    return ask


def _answer(data: bytes) -> object:
    """What a device reads of any answer."""
    answer = _parsed(wire.Answer, data)
    overlay_from_proto(answer.overlay, "id", 0)
    tensor_from_proto(answer.scores.values)
    return settled_from_proto(answer.contributed)


def _parsed(kind: type[Any], data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise BadAsk("not a message") from error


def _prepared(files: bytes) -> object:
    """A prepared log whose manifest is the input."""
    folder = Path(mkdtemp(prefix="fuzz-", dir=_SCRATCH))
    (folder / "manifest.json").write_bytes(files)
    try:
        return open_log(folder)
    finally:
        (folder / "manifest.json").unlink()
        folder.rmdir()


def _asks() -> list[Message]:
    numbers = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    tensors = [tensor_to_proto("a.b", numbers, codec) for codec in Codec]
    return [
        wire.Ask(seq=1, hello=wire.Hello(user=3, bundle_id="ab" * 32, profile=[1, 2])),
        wire.Ask(seq=2, at=1.5, refresh=wire.Refresh(items=[1, 2, 3], outputs=tensors)),
        wire.Ask(seq=3, rank=wire.Rank(items=[1], candidates=[4, 5], retrieve=3)),
        wire.Ask(seq=4, upload=wire.Upload(first=1, items=[4], times=[2.5])),
        wire.Ask(seq=5, contribute=wire.Contribute(sequence=2, examples=3, deltas=tensors)),
    ]


def _answers() -> list[Message]:
    numbers = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    tensors = [tensor_to_proto("a.b", numbers, codec) for codec in Codec]
    return [
        wire.Answer(seq=1, welcome=wire.Welcome(events_stored=3)),
        wire.Answer(seq=2, overlay=wire.Overlay(slots=tensors, group=1, version=2)),
        wire.Answer(seq=3, scores=wire.Scores(values=tensors[0], items=[1, 2])),
        wire.Answer(seq=4, contributed=wire.Contributed(outcome=wire.OUTCOME_ACCEPTED)),
        wire.Answer(seq=5, fault=wire.Fault(code="overloaded", retry_after_ms=10)),
    ]


def _bytes(messages: Sequence[Message]) -> list[bytes]:
    return [message.SerializeToString() for message in messages]


_CSV: Final = b"user,item,time\n1,7,12.5\n2,8,2024-01-01T00:00:00\n,9,3\n"
_TRACE: Final = b"seconds,down_mbit,up_mbit,rtt_ms\n0,1,2,30\n1,4,0.5,60\n"
_SCENARIO: Final = b"methods: [base, 'duet[duet.every=3]']\nseeds: [0, 1]\ntrain: {epochs: 1e1}\n"
_GRAPH: Final = json.dumps(
    {"nodes": [{"id": "a"}, {"id": "b", "val": True}], "links": [{"source": 0, "target": 1}]}
).encode()
_CRITEO: Final = b"\t".join([b"1", *[b"3"] * 13, *[b"68fd1e64"] * 26]) + b"\n"


def _parquet() -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame({"user": [1, 2], "item": ["a", "b"], "time": [1.0, 2.0]}).write_parquet(buffer)
    return buffer.getvalue()


def _table(name: str) -> Target:
    form = FORMATS[name]
    line = b"\x01".join([b"1", b"3,4,0", b"5", b"2"] * form.layout.width)
    return Target(_file(".txt", lambda path: read_tables([path], form)), [line, b"1\t2\n"])


def _graph(path: Path) -> object:
    """A graph whose one file is the input; the others fit the first node."""
    folder = path.parent
    (folder / "x-G.json").write_bytes(path.read_bytes())
    (folder / "x-id_map.json").write_text('{"a": 0, "b": 1}')
    (folder / "x-class_map.json").write_text('{"a": 0, "b": 1}')
    return read_graph(folder / "x")


def _scenario(path: Path) -> object:
    return compose(path, {})


TARGETS: Final[Mapping[str, Target]] = {
    "ask": Target(_ask, _bytes(_asks())),
    "answer": Target(_answer, _bytes(_answers())),
    "bundle": Target(lambda data: unpack(data, "0" * 64), [b"", b"\x28\xb5\x2f\xfd"]),
    "manifest": Target(parse_manifest, [b"{}", b'{"format": 5, "method": "base"}']),
    "arrays": Target(arrays_from_bytes, [arrays_to_bytes({"a": np.zeros((2, 3), np.float32)})]),
    "settings": Target(
        lambda data: parse_settings([data.decode(errors="replace")]),
        [b"a.b=1e-3", b'a.b=["x"]', b"a=true", b"sizes=13-512-16"],
    ),
    "lines": Target(
        lambda data: list(read_lines(data.decode(errors="replace").splitlines())),
        [b'{"user": 1, "rank": [3, 7]}', b'{"user": 1, "observe": 7, "at": 2.5}'],
    ),
    "scenario": Target(_file(".yaml", _scenario), [_SCENARIO, yaml.safe_dump({"a": 1}).encode()]),
    "csv": Target(_file(".csv", lambda path: read_file(path, Columns())), [_CSV]),
    # Each is read by a process of its own first.
    "parquet": Target(
        _file(".parquet", lambda path: read_file(path, Columns())), [_parquet()], 0.02
    ),
    "trace": Target(_file(".csv", read_trace), [_TRACE]),
    "log": Target(_prepared, [b"{}"]),
    "criteo": Target(_file(".txt", lambda path: list(read_values(path))), [_CRITEO]),
    "graph": Target(_file(".json", _graph), [_GRAPH]),
    **{f"table-{name}": _table(name) for name in FORMATS},
}
"""By name."""
