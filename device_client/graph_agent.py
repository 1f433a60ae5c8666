"""A run on graphs: devices meet nodes and edges, and classify those that they are asked about."""

# Shapes: K new nodes, F features, P new edges, M asked nodes.

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import zstandard

from device_client.classifier import Classifier, activate_classifier
from device_client.control import Simulation, process_account, round_done
from device_client.graph_memory import GraphMemory
from device_client.grpc_cloud import GrpcCloud
from device_client.host import announced_bundle
from device_client.ledger import DeviceLedger
from device_client.settings import DeviceSettings
from protos.v1 import simulation_pb2 as plane
from shared_models.contract.errors import BadAsk, ConcertoError, RunFailed
from shared_models.contract.tensors import Float32Array

Clock = Callable[[], float]
_MOST_BYTES: Final = 1 << 30
_PAGE_BYTES: Final = 1 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wires:
    """What a run on this process talks to, and counts with."""

    cloud: GrpcCloud
    ledger: DeviceLedger
    simulation: Simulation
    clock: Clock


class GraphRun:
    """One run of a simulation whose devices hold graphs.

    Args:
        classifier: the active bundle.
        settings: how the devices work.
        wires: cloud, simulation, ledger and clock.
    """

    def __init__(self, classifier: Classifier, settings: DeviceSettings, wires: Wires) -> None:
        self._classifier, self._settings, self._wires = classifier, settings, wires
        self._devices: dict[int, GraphMemory] = {}

    async def obey(self, order: plane.Order) -> None:
        """Do what is ordered within a run.

        Raises:
            RunFailed: it is nothing of that kind.
        """
        match order.WhichOneof("body"):
            case "round":
                await self._play(order.round)
            case "switch":
                await self._switch(order.switch.bundle_id)
            case other:
                raise RunFailed(f"{other} was ordered in the middle of a run")

    async def tell_ready(self) -> None:
        """Say which bundle is active."""
        ready = plane.Ready(
            bundle_id=self._classifier.bundle_id, provider=self._classifier.provider
        )
        await self._wires.simulation.tell(ready=ready)

    async def end(self) -> None:
        """Give account."""
        connections = await self._wires.cloud.connections()
        done = process_account(self._wires.ledger, connections)
        done.state_bytes.extend(
            plane.UserCount(user=user, count=memory.state_bytes)
            for user, memory in self._devices.items()
        )
        await self._wires.simulation.tell(run_done=done)

    async def _play(self, part: plane.Round) -> None:
        self._wires.cloud.round = part.number
        page, scores = plane.Classified(), bytearray()
        for arrival in part.arrivals:
            start = self._wires.clock()
            said = self._classified(arrival)
            page.seconds.append(self._wires.clock() - start)
            page.arrivals.append(arrival.index)
            scores += said.astype("<f4").tobytes()
            if len(scores) >= _PAGE_BYTES:
                page, scores = await self._hand_over(page, scores)
        await self._hand_over(page, scores)
        done = round_done(part.number, self._wires.ledger)
        await self._wires.simulation.tell(round_done=done)

    async def _hand_over(
        self, page: plane.Classified, scores: bytearray
    ) -> tuple[plane.Classified, bytearray]:
        """Report what was written, and take a blank page."""
        page.scores = bytes(scores)
        await self._wires.simulation.tell(classified=page)
        return plane.Classified(), bytearray()

    def _classified(self, arrival: plane.Arrival) -> Float32Array:
        """Let the device meet what is new; logits (M, C) of what it is asked about."""
        width = self._classifier.nodes.features
        memory = self._devices.get(arrival.user)
        if memory is None:
            memory = GraphMemory(width, self._settings.graph_nodes)
            self._devices[arrival.user] = memory
        try:
            raw = zstandard.decompress(arrival.features, max_output_size=_MOST_BYTES)
            features_KF = np.frombuffer(raw, "<f4").reshape(-1, width)
            pairs_2P = np.frombuffer(arrival.pairs, "<i4").astype(np.int64).reshape(2, -1)
            degrees_N = np.frombuffer(arrival.degrees, "<f4")
        except (ValueError, zstandard.ZstdError) as error:
            raise BadAsk(
                f"what user {arrival.user} meets is not as long as it should be"
            ) from error
        memory.learn(features_KF, pairs_2P, degrees_N)
        asked_M = memory.places(np.array(arrival.asked, np.int64))
        return self._classifier.classify(memory.graph())[asked_M]

    async def _switch(self, bundle_id: str) -> None:
        """Run another bundle from now on, or go on with this one where that is no good."""
        try:
            method = self._classifier.manifest.method
            bundle = await announced_bundle(
                self._wires.cloud, self._settings, method, bundle_id, os.getpid()
            )
            self._classifier = self._fitting(activate_classifier(bundle, self._settings))
        except ConcertoError as error:
            _log.warning("bundle %s is not taken over: %s", bundle_id[:12], error)
        await self.tell_ready()

    def _fitting(self, classifier: Classifier) -> Classifier:
        if classifier.nodes != self._classifier.nodes:
            raise BadAsk(f"it reads {classifier.nodes}, devices hold {self._classifier.nodes}")
        return classifier
