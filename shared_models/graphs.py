"""torch modules as plain ONNX graphs, and what they are compared on.

The recipe and its traps were measured: torch's dynamo exporter, every size but the slots' dynamic,
no metadata (the exporter writes stack traces of the cloud's source into each node), a full check.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from shared_models.contract.errors import BundleRefused
from shared_models.contract.features import PRIOR, PROFILE, FeatureSpec

OPSET: Final = 20
PROBES: Final = ((1, 10, 0, 5), (1, 10, 10, 100), (3, 7, 4, 7), (8, 13, 13, 1))
"""Rows, length of the window, items in it, and candidates that exported graphs are compared on."""


def to_onnx(
    module: nn.Module,
    example: Mapping[str, Tensor],
    slots: Mapping[str, Tensor],
    outputs: Sequence[str],
    sizes: Mapping[str, Mapping[int, str]],
) -> bytes:
    """``module`` as ONNX bytes, proved to be well-formed and stripped.

    Args:
        module: takes the tensors of ``example`` and then those of ``slots`` by position.
        example: inputs by name; sizes of at least 2, for 0 and 1 are special to torch.
        slots: values of slots by name; their sizes are fixed.
        outputs: names, in the order of what ``module`` returns.
        sizes: for each input of ``example``, the name of each size that is dynamic.

    Raises:
        BundleRefused: torch exported nothing.
    """
    dims = {name: torch.export.Dim(name) for ports in sizes.values() for name in ports.values()}
    dynamic: list[Any] = [
        {axis: dims[name] for axis, name in sizes[port].items()} for port in example
    ]
    # torch swaps the kernel of a GRU while it exports and forgets the dispatch that it cached:
    # without this the second GRU of a process has a window of constant length.
    torch.ops.aten.gru.input._dispatch_cache.clear()  # noqa: SLF001
    with warnings.catch_warnings(), _quiet_exporter():
        warnings.simplefilter("ignore")
        # The module itself, not an exported program: only so does a GRU keep its length dynamic.
        program = torch.onnx.export(
            module,
            (*example.values(), *slots.values()),
            dynamo=True,
            dynamic_shapes=(*dynamic, tuple({} for _ in slots)) if slots else (*dynamic,),
            opset_version=OPSET,
            input_names=[*example, *slots],
            output_names=list(outputs),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise BundleRefused("torch exported nothing")
    return strip(program.model_proto.SerializeToString())


def strip(graph: bytes) -> bytes:
    """``graph`` without names of source files, doc strings and inferred shapes; fully checked."""
    model = onnx.load_from_string(graph)
    model.producer_name = model.producer_version = model.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    model.graph.doc_string = ""
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def probe(
    features: FeatureSpec, slots: Mapping[str, Tensor], size: tuple[int, int, int, int]
) -> dict[str, Any]:
    """Inputs of a scorer of a size as in `PROBES`, with slots moved away from their defaults."""
    rows, length, known, choice = size
    rng = np.random.default_rng(rows * 100 + choice)
    events = np.zeros((rows, length), dtype=np.int64)
    events[:, :known] = rng.integers(1, features.items + 1, (rows, known))
    defaults = {name: value.detach().numpy() for name, value in slots.items()}
    profile = features.profile
    return {
        "event_ids": events,
        "candidate_ids": rng.integers(1, features.items + 1, (rows, choice)),
        **({PROFILE: rng.integers(0, profile.values + 1, (rows, profile.most))} if profile else {}),
        **({PRIOR: rng.normal(0, 3, (rows, choice)).astype(np.float32)} if features.prior else {}),
        **{n: v + 0.1 * rng.standard_normal(v.shape, np.float32) for n, v in defaults.items()},
    }


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter logs its progress as warnings; only errors are news."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
