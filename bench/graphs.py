"""GGCN: on Citeseer, on a large graph, on a device, and under shift.

    python -m bench.graphs citeseer --prefix DIR/citeseer [--seeds 0,1,2,3,4]
    python -m bench.graphs large
    python -m bench.graphs device --prefix DIR/citeseer
    python -m bench.graphs spread

``citeseer`` gives the test accuracy of the plain method, depth and epoch chosen on validation, and
how far the exported graph is from torch on ego graphs. ``large`` times an epoch on 100,000 nodes
and 2,000,000 edges and tells the most memory it took. ``device`` times ego graphs of 200 nodes
through the device's own classifier, beside the bare onnxruntime session. ``spread`` times ways of
passing messages. One thread, as devices and busy clouds have it.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from cloud_server.graphs.parts import GraphData
from cloud_server.graphs.train import NodeEpoch, train_nodes
from cloud_server.recipe import NodeTrainSettings
from shared_models.catalog import load_method, resolve_nodes
from shared_models.contract.bundle import Bundle
from shared_models.contract.classification import classification
from shared_models.contract.nodes import NodeGraph
from shared_models.layers.graph import spread_over, spread_sparse
from shared_models.logs.graphs.labelled import LabelledGraph
from shared_models.logs.graphs.read import read_graph
from shared_models.node_export import CLASSIFIER, compile_node_bundle
from shared_models.node_method import NodeMethod

DEPTHS = (1, 2, 4)
LARGE_NODES, LARGE_EDGES, LARGE_FEATURES = 100_000, 2_000_000, 50
EGO_NODES = 200


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


def large() -> None:
    graph = drawn_graph(LARGE_NODES, LARGE_EDGES, LARGE_FEATURES)
    method = ggcn(graph, layers=4, scale="none")
    for nodes in (LARGE_NODES, 20_000):
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
    parser.add_argument("what", choices=("citeseer", "large", "device", "spread"))
    parser.add_argument("--prefix", type=Path)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "citeseer":
        citeseer(options.prefix, [int(seed) for seed in options.seeds.split(",")])
    elif options.what == "large":
        large()
    elif options.what == "spread":
        spread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
