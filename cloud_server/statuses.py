"""Our errors as a device meets them: one table, for answers of a session and for whole calls."""

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from grpc import StatusCode, aio

from protos.v1.collaboration_pb2 import Answer, Fault
from shared_models.contract.errors import (
    AccessRefused,
    BadAsk,
    BundleCorrupt,
    CertificateRefused,
    CloudUnavailable,
    ConcertoError,
    Overloaded,
    TokenRefused,
    UnknownBundle,
    UnknownName,
)
from shared_models.contract.log_lines import Seldom, note

_log = logging.getLogger(__name__)

# The error's own words appear only where they tell nothing of the cloud's inside.
STATUS: Final[Mapping[str, tuple[StatusCode, str]]] = {
    BadAsk.code: (StatusCode.INVALID_ARGUMENT, "{error}"),
    UnknownName.code: (StatusCode.NOT_FOUND, "{error}"),
    UnknownBundle.code: (StatusCode.NOT_FOUND, "There is no such bundle: fetch the released one."),
    BundleCorrupt.code: (StatusCode.DATA_LOSS, "The cloud's copy of this bundle is damaged."),
    AccessRefused.code: (StatusCode.PERMISSION_DENIED, "{error}"),
    CertificateRefused.code: (StatusCode.PERMISSION_DENIED, "{error}"),
    TokenRefused.code: (StatusCode.UNAUTHENTICATED, "{error}"),
    CloudUnavailable.code: (StatusCode.UNAVAILABLE, "{error}"),
    Overloaded.code: (StatusCode.RESOURCE_EXHAUSTED, "{error}"),
}
_OTHER: Final = (StatusCode.INTERNAL, "The cloud cannot serve this.")


def status_of(error: ConcertoError) -> tuple[StatusCode, str]:
    """Status and public message for ``error``."""
    status, message = STATUS.get(error.code, _OTHER)
    return status, message.format(error=error)


@contextmanager
def as_fault(answer: Answer) -> Iterator[None]:
    """Turn an error of ours into the fault of ``answer``; the session lives on."""
    try:
        yield
    except ConcertoError as error:
        wait = error.retry_after_ms if isinstance(error, Overloaded) else 0
        _, message = status_of(error)
        answer.fault.CopyFrom(Fault(code=error.code, message=message, retry_after_ms=wait))


class FaultLog:
    """Tells of refused asks: the first of each code at once, then how many there were."""

    def __init__(self) -> None:
        self._seldom = Seldom()

    def tell(self, kind: str, fault: Fault) -> None:
        """An ask of ``kind`` was answered with ``fault``."""
        times = self._seldom.due(fault.code)
        if times is not None:
            facts = {"code": fault.code, "times": times, "kind": kind, "message": fault.message}
            note(_log, "asks were refused", level=logging.WARNING, **facts)


@asynccontextmanager
async def as_status(context: aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Turn an error of ours into the status that ends the call."""
    try:
        yield
    except ConcertoError as error:
        await context.abort(*status_of(error))
