"""A bundle is proved before it is announced, as a device will prove it before it is run."""

from typing import Final

from shared_models.contract.arrays import Arrays
from shared_models.contract.bundle import LEARNING_VECTOR, TEST_VECTOR, Bundle, same
from shared_models.contract.errors import BundleRefused
from shared_models.contract.manifest import GraphSpec, Task
from shared_models.runtime import CPU, Graph, load_session

_MAIN: Final = {Task.RANKING: "scorer", Task.NODE_CLASSIFICATION: "classifier"}
_LEARNING: Final = "grad"


def prove(bundle: Bundle) -> None:
    """Load every graph of ``bundle``, and see its test vectors come out.

    Raises:
        BundleCorrupt: a file cannot be read.
        BundleRefused: it would not work on a device.
    """
    graphs = bundle.manifest.graphs
    main = _MAIN[bundle.manifest.task]
    if main not in graphs:
        raise BundleRefused(f"bundle {bundle.id[:12]} has no graph {main!r}")
    bundle.check_defaults()
    vectors = {main: bundle.test_vector if TEST_VECTOR in bundle.files else {}}
    if _LEARNING in graphs:
        held = LEARNING_VECTOR in bundle.files
        vectors[_LEARNING] = bundle.learning_vector if held else {}
    for name, spec in graphs.items():
        try:
            graph = load_session(bundle.graph(name), CPU)
            graph.check_ports(spec)
            if name in vectors:
                _compare(graph, spec, vectors[name])
        except BundleRefused as error:
            raise BundleRefused(f"graph {name!r}: {error}") from error


def _compare(graph: Graph, spec: GraphSpec, vector: Arrays) -> None:
    names = [port.name for port in (*spec.inputs, *spec.outputs)]
    if set(vector) != set(names):
        raise BundleRefused(f"a test vector holds {sorted(vector)}, the manifest names {names}")
    feeds = {port.name: vector[port.name] for port in spec.inputs}
    outputs = [port.name for port in spec.outputs]
    for name, value in zip(outputs, graph.run_all(outputs, feeds), strict=True):
        if not same(value, vector[name]):
            raise BundleRefused(f"its test vector does not come out: {name!r} differs")
