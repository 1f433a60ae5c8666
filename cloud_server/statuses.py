"""Our errors as a device meets them: one table, for answers of a session and for whole calls."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from grpc import StatusCode, aio

from protos.v1.collaboration_pb2 import Answer, Fault
from shared_models.contract.errors import (
    BadAsk,
    BundleCorrupt,
    CloudUnavailable,
    ConcertoError,
    Overloaded,
    UnknownBundle,
    UnknownName,
)

# The error's own words appear only where they tell nothing of the cloud's inside.
STATUS: Final[Mapping[str, tuple[StatusCode, str]]] = {
    BadAsk.code: (StatusCode.INVALID_ARGUMENT, "{error}"),
    UnknownName.code: (StatusCode.NOT_FOUND, "{error}"),
    UnknownBundle.code: (StatusCode.NOT_FOUND, "There is no such bundle: fetch the released one."),
    BundleCorrupt.code: (StatusCode.DATA_LOSS, "The cloud's copy of this bundle is damaged."),
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


@asynccontextmanager
async def as_status(context: aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Turn an error of ours into the status that ends the call."""
    try:
        yield
    except ConcertoError as error:
        await context.abort(*status_of(error))
