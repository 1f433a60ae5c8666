"""What cloud and devices share, and what must stand in their environment before libraries read it.

A result must not depend on what shares its batch, and MKL, which torch computes with on a CPU, by
itself adds up in an order that depends on the batch's size (in the last bit; on processors without
AVX-512 even rows of one product differ). So it is asked for the strict mode of its conditional
numerical reproducibility, before torch first calls it. That costs no time where it was measured.

gRPC 1.80 moved Python's connections to a pool of threads of its own, its event engine. With one
event loop a process that costs an exchange on a stream a third more time and a unary one none less;
so it is told to poll as before, by experiments that later releases will not know.
"""

import os
from importlib.metadata import version

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

if tuple(map(int, version("grpcio").split(".")[:2])) <= (1, 85):
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
