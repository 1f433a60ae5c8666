"""One device's process that times training steps, or tells its resident bytes.

Run by `bench.learning` as ``python -m bench.one_learner steps|learn|rank BUNDLE``; imports what a
device imports, and nothing else. ``steps`` prints pairs of steps a second: ours, the bare graph's.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from bench.ratios import Pair
from device_client.adam import Adam
from device_client.client import DeviceClient
from device_client.cloud import AbsentCloud
from device_client.lessons import Lesson, lesson_of
from device_client.scorer import Scorer
from device_client.settings import DeviceSettings
from shared_models.contract.bundle import Bundle, read_bundle
from shared_models.contract.events import Event
from shared_models.runtime import _options

ROUNDS: Final = 9
STEPS: Final = 200
EVENTS: Final = 100
CPU: Final = ("CPUExecutionProvider",)
Step = Callable[[], object]


def lesson(bundle: Bundle) -> Lesson:
    """Events of nobody in particular, as many as a step reads."""
    manifest, rng = bundle.manifest, np.random.default_rng(0)
    assert manifest.learning is not None  # noqa: S101 - exported so
    count = manifest.learning.rows + manifest.features.window
    items = rng.integers(1, manifest.features.items + 1, count).tolist()
    found = lesson_of(items, manifest.features, manifest.learning, rng)
    assert found is not None  # noqa: S101 - there are events
    return found


def per_second(ours: Step, bare: Step) -> Pair:
    """Steps a second of both, which take turns: by the fastest step of each.

    What else runs on a machine only ever adds to a step, and to the longer of the two more often.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(STEPS):
        for step, times in zip((ours, bare), seconds, strict=True):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
    return 1 / min(seconds[0]), 1 / min(seconds[1])


def steps(bundle: Bundle) -> list[Pair]:
    """Steps a second of the learner and of its graph alone, round by round."""
    learner = Scorer(bundle).learner
    assert learner is not None  # noqa: S101 - exported so
    batch, adam = lesson(bundle), Adam(learner.start)
    session = onnxruntime.InferenceSession(bundle.graph("grad"), _options(), providers=list(CPU))
    outputs = [port.name for port in bundle.manifest.graphs["grad"].outputs]
    feeds = {**bundle.defaults, **batch}

    def play() -> Pair:
        return per_second(lambda: learner.train(adam, batch), lambda: session.run(outputs, feeds))

    play()
    return [play() for _ in range(ROUNDS)]


async def resident_bytes(bundle: Bundle) -> int:
    """Of this process after a device has ranked, and learned where its bundle says so."""
    device = DeviceClient(1, Scorer(bundle), AbsentCloud(), DeviceSettings(), items=range(1, 60))
    for item in range(1, EVENTS):
        await device.rank(np.arange(1, 101))
        await device.observe(Event(item, 0.0))
        device.learn()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    what, folder = sys.argv[1:]
    about = read_bundle(Path(folder))
    print(json.dumps(steps(about) if what == "steps" else asyncio.run(resident_bytes(about))))
