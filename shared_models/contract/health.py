"""Whether a gRPC server is in health: ``python -m shared_models.contract.health HOST:PORT [DIR]``.

For health checks of containers, which ask every few seconds: it loads little. DIR is the identity
of who asks, where the server wants one.
"""

import sys
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from shared_models.contract.security import ProcessIdentity, dial_blocking, read_identity

_PATIENCE_S: Final = 3.0


def is_serving(address: str, identity: ProcessIdentity | None = None) -> bool:
    """Whether the server at ``address`` says that it serves."""
    with dial_blocking(address, identity) as channel:
        try:
            answer = HealthStub(channel).Check(HealthCheckRequest(), timeout=_PATIENCE_S)
        except grpc.RpcError:
            return False
    return bool(answer.status == HealthCheckResponse.SERVING)


if __name__ == "__main__":
    own = read_identity(Path(sys.argv[2])) if len(sys.argv) > 2 else None
    sys.exit(not is_serving(sys.argv[1], own))
