"""GGCN: on Citeseer, on a large graph, on a device, and under shift.

    python -m bench.graphs citeseer --prefix DIR/citeseer [--seeds 0,1,2,3,4]
    python -m bench.graphs degrees --prefix DIR/citeseer
    python -m bench.graphs large
    python -m bench.graphs device --prefix DIR/citeseer
    python -m bench.graphs shift [--seeds 0,1,2,3,4]
    python -m bench.graphs spread

``citeseer`` gives the test accuracy of the plain method, depth and epoch chosen on validation, and
how far the exported graph is from torch on ego graphs. ``degrees`` trains plainly and decorrelated
on Citeseer's well-connected nodes alone, and tests on those and on the others. ``large`` times an
epoch on 100,000 nodes and 2,000,000 edges and tells the most memory it took. ``device`` times ego
graphs of 200 nodes through the device's own classifier, beside the bare onnxruntime session.
``shift`` compares plain and decorrelated training on `shared_models.logs.graphs.spurious`, where a
correlation of .8 in the cloud's graph is turned round on the device's. ``spread`` times ways of
passing messages. One thread, as devices and busy clouds have it.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from cloud_server.graphs.evaluate import node_scores
from cloud_server.graphs.parts import GraphData
from cloud_server.graphs.train import NodeEpoch, train_nodes
from cloud_server.recipe import NodeTrainSettings
from device_client.classifier import Classifier
from shared_models.catalog import load_method, resolve_nodes
from shared_models.contract.bundle import Bundle, pack
from shared_models.contract.classification import classification
from shared_models.contract.nodes import NodeGraph
from shared_models.layers.graph import spread_over, spread_sparse
from shared_models.logs.graphs.labelled import PARTS, LabelledGraph
from shared_models.logs.graphs.read import read_graph
from shared_models.logs.graphs.spurious import spurious_graph
from shared_models.node_export import CLASSIFIER, compile_node_bundle
from shared_models.node_method import NodeMethod

DEPTHS = (1, 2, 4)
LARGE_NODES, LARGE_EDGES, LARGE_FEATURES = 100_000, 2_000_000, 50
EGO_NODES = 200
CONNECTED = 3
"""Neighbours that a well-connected node has at least."""
DEVICE_NETWORK = {"device_width": 28, "layers": 2}
SHIFT_NODES, CORRELATION = 4_000, 0.8
SHIFT_NETWORK = {"width": 32, "dropout": 0.2, "scale": "none"}
T_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 10: 2.262}
"""Student's t at 97.5 % for so many seeds."""


class Quiet:
    """Watches nothing."""

    def on_step(self, stage: str, epoch: int, step: int, steps: int) -> None: ...
    def on_epoch(self, stage: str, record: NodeEpoch) -> None: ...


def ggcn(graph: LabelledGraph, **settings: Any) -> NodeMethod:
    method: NodeMethod = load_method("ggcn", resolve_nodes("ggcn", graph.spec, {"ggcn": settings}))
    return method


def citeseer(prefix: Path, seeds: Sequence[int]) -> None:
    graph = read_graph(prefix)
    method = ggcn(graph, depths=DEPTHS)
    whole = GraphData(graph, torch.device("cpu")).whole("test")
    found = []
    for seed in seeds:
        start = time.perf_counter()
        trained, _ = train_nodes(method, graph, NodeTrainSettings(), seed, Quiet())
        seconds = time.perf_counter() - start
        with torch.inference_mode():
            logits = trained.method.score(trained.model, whole).numpy()
        test = graph.nodes("test")
        found.append(classification(logits[test], graph.labels_NC[test], multi_label=False))
        shape = trained.method.config.model_dump()["layers"]
        bundle = compile_node_bundle(trained.method, trained.model, graph.hash)
        apart = _difference(bundle, graph, logits, hops=shape)
        print(
            f"seed {seed}: {shape} layers, accuracy {found[-1]['accuracy']:.4f}, macro-F1 "
            f"{found[-1]['macro_f1']:.4f}, {seconds:.0f} s; ego graphs differ by {apart:.1e}",
            flush=True,
        )
    accuracy = np.array([each["accuracy"] for each in found])
    print(f"mean accuracy {accuracy.mean():.4f}, sd {accuracy.std(ddof=len(accuracy) > 1):.4f}")


def _difference(bundle: Bundle, graph: LabelledGraph, logits: Any, hops: int) -> float:
    """Largest difference between the whole graph's scores and those of ego graphs on a device."""
    session = _session(bundle)
    return max(
        float(
            np.abs(
                session.run(None, _feeds(graph.graph.ego(node, hops)))[0][0] - logits[node]
            ).max()
        )
        for node in graph.nodes("test")[:200].tolist()
    )


def _session(bundle: Bundle) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(bundle.graph(CLASSIFIER), options)


def _feeds(graph: NodeGraph) -> dict[str, Any]:
    return {"features": graph.features_NF, "edges": graph.edges_2E, "degrees": graph.degrees_N}


def device(prefix: Path) -> None:
    graph = read_graph(prefix)
    method = ggcn(graph, **DEVICE_NETWORK)
    bundle = compile_node_bundle(method, method.build(0), graph.hash)
    classifier, session = Classifier(bundle), _session(bundle)
    egos = [graph.graph.part(_about(graph, centre)) for centre in graph.nodes("test")[:5].tolist()]
    print(
        f"device model: {len(bundle.graph(CLASSIFIER)):,} bytes; whole bundle {bundle.size:,}, "
        f"{len(pack(bundle)):,} on the wire"
    )
    ours = [_ms(lambda ego=ego: classifier.classify(ego)) for ego in egos]
    bare = [_ms(lambda ego=ego: session.run(None, _feeds(ego))) for ego in egos]
    sizes = ", ".join(f"{len(ego)}/{ego.edges_2E.shape[1] // 2}" for ego in egos)
    print(
        f"ego graphs (nodes/edges {sizes}): {np.median(ours):.2f} ms through the device's "
        f"classifier, {np.median(bare):.2f} ms bare onnxruntime"
    )


def _about(graph: LabelledGraph, centre: int) -> Any:
    """The nearest nodes of a test node, as many as a device has; far ones where it has few."""
    for hops in range(1, 30):
        nodes = graph.graph.around(np.array([centre]), hops)
        if len(nodes) >= EGO_NODES:
            break
    rest = np.setdiff1d(np.arange(len(graph)), nodes)
    return np.concatenate([nodes, rest])[:EGO_NODES]


def _ms(work: Callable[[], object]) -> float:
    """Median of 50 runs."""
    times = []
    for _ in range(55):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times[5:]))


def large() -> None:
    graph = drawn_graph(LARGE_NODES, LARGE_EDGES, LARGE_FEATURES)
    method = ggcn(graph, layers=4, scale="none")
    for nodes in (20_000, LARGE_NODES):
        settings = NodeTrainSettings(epochs=2, nodes=nodes)
        start = time.perf_counter()
        train_nodes(method, graph, settings, 0, Quiet())
        seconds = (time.perf_counter() - start) / 2
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{len(graph):,} nodes, {graph.graph.edges_2E.shape[1] // 2:,} edges, batches of "
            f"{nodes:,}: {seconds:.1f} s an epoch, validation included; at most {most:.1f} GB",
            flush=True,
        )


def drawn_graph(nodes: int, edges: int, features: int) -> LabelledGraph:
    """Ten classes that like their own, features that say a little of them."""
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=nodes)
    ends = rng.integers(nodes, size=(2, 2 * edges))
    alike = labels[ends[0]] == labels[ends[1]]
    ends = ends[:, alike | (rng.random(2 * edges) < 0.45)][:, :edges]
    means = rng.standard_normal((10, features))
    values = means[labels] * 0.3 + rng.standard_normal((nodes, features))
    parts = rng.choice(3, nodes, p=(0.8, 0.1, 0.1)).astype(np.int8)
    graph = NodeGraph.whole(values.astype(np.float32), ends)
    hot = np.eye(10, dtype=np.float32)[labels]
    ids = [str(node) for node in range(nodes)]
    return LabelledGraph("drawn", ids, graph, hot, np.ones(nodes, bool), parts, multi_label=False)


def shift(seeds: Sequence[int]) -> None:
    found: dict[str, dict[str, list[float]]] = {}
    best = []
    for seed in seeds:
        cloud = spurious_graph(SHIFT_NODES, CORRELATION, seed)
        # Devices' graphs are other ones: the same correlation, none, and its opposite.
        others = {
            r: spurious_graph(SHIFT_NODES, r, 1000 * (seed + 1) + n)
            for n, r in enumerate((CORRELATION, 0.0, -CORRELATION))
        }
        best.append([other.best for other in others.values()])
        for name, how in {"plain": None, "decorrelated": {}}.items():
            method = ggcn(cloud.graph, **SHIFT_NETWORK, decorrelate=how)
            trained, _ = train_nodes(method, cloud.graph, NodeTrainSettings(), seed, Quiet())
            for r, other in others.items():
                every = classification(
                    node_scores(trained, other.graph), other.graph.labels_NC, multi_label=False
                )
                where = f"correlation {r:+.1f}"
                found.setdefault(name, {}).setdefault(where, []).append(every["accuracy"])
        print(f"seed {seed}: {_last(found)}", flush=True)
    print(f"best reachable on average: {np.mean(best):.4f}")
    _print_gains(found, len(seeds))


def degrees(prefix: Path, seeds: Sequence[int]) -> None:
    graph = read_graph(prefix)
    connected = graph.graph.degrees_N >= CONNECTED
    seen = replace(
        graph, labelled_N=graph.labelled_N & (connected | (graph.part_N == PARTS.index("test")))
    )
    test = graph.nodes("test")
    found: dict[str, dict[str, list[float]]] = {}
    for seed in seeds:
        for name, how in {"plain": None, "decorrelated": {}}.items():
            trained, _ = train_nodes(
                ggcn(graph, decorrelate=how), seen, NodeTrainSettings(), seed, Quiet()
            )
            scores = node_scores(trained, graph)
            for where, own in {"as trained": connected[test], "others": ~connected[test]}.items():
                nodes = test[own]
                every = classification(scores[nodes], graph.labels_NC[nodes], multi_label=False)
                found.setdefault(name, {}).setdefault(where, []).append(every["accuracy"])
        print(f"seed {seed}: {_last(found)}", flush=True)
    _print_gains(found, len(seeds))


def _print_gains(found: Mapping[str, Mapping[str, Sequence[float]]], seeds: int) -> None:
    for where, plain in found["plain"].items():
        gain = np.subtract(found["decorrelated"][where], plain)
        half = T_975[seeds] * gain.std(ddof=1) / np.sqrt(seeds)
        print(
            f"{where}: plain {np.mean(plain):.4f}, decorrelated "
            f"{np.mean(found['decorrelated'][where]):.4f}, gain {gain.mean():+.4f} ± {half:.4f}"
        )


def _last(found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    return "; ".join(
        f"{name} " + ", ".join(f"{r} {values[-1]:.4f}" for r, values in by.items())
        for name, by in found.items()
    )


def spread() -> None:
    for nodes, edges in ((3_327, 4_552), (20_000, 400_000)):
        graph = drawn_graph(nodes, edges, 2).graph
        given = torch.from_numpy(graph.edges_2E), torch.from_numpy(graph.degrees_N)
        hidden = torch.randn(nodes, 64, requires_grad=True)
        for name, way in {"sparse": spread_sparse, "index_add": spread_over}.items():
            told = way(*given)
            print(f"{nodes:,} nodes, {edges:,} edges, {name}: {_backward_ms(told, hidden):.1f} ms")


def _backward_ms(told: Callable[[Tensor], Tensor], hidden: Tensor) -> float:
    def once() -> float:
        start = time.perf_counter()
        torch.autograd.grad(told(hidden).sum(), hidden)
        return time.perf_counter() - start

    return 1e3 * min(once() for _ in range(5))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    work: dict[str, Callable[[Path, Sequence[int]], None]] = {
        "citeseer": citeseer,
        "degrees": degrees,
        "device": lambda prefix, _: device(prefix),
        "large": lambda *_: large(),
        "shift": lambda _, seeds: shift(seeds),
        "spread": lambda *_: spread(),
    }
    parser.add_argument("what", choices=work)
    parser.add_argument("--prefix", type=Path)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    options = parser.parse_args()
    torch.set_num_threads(1)
    work[options.what](options.prefix, [int(seed) for seed in options.seeds.split(",")])
    return 0


if __name__ == "__main__":
    sys.exit(main())
