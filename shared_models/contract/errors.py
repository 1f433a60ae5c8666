"""Everything that can go wrong, in one tree.

    ConcertoError
    ├── InputError                 what the user gave is wrong; exit code 2
    │   ├── UnknownName            a method, trunk, log or setting that does not exist
    │   ├── BadSetting             a setting has a wrong type or makes no sense
    │   ├── BadLog                 a log file cannot be used
    │   │   ├── ColumnMissing
    │   │   ├── BadValue
    │   │   ├── BadNode
    │   │   └── TooSmall
    │   ├── PathMissing            a file or folder is not there
    │   └── PortTaken              somebody else listens there
    ├── BundleError                cloud and device disagree about a bundle
    │   ├── UnknownBundle
    │   ├── BundleCorrupt          bytes do not match their hash
    │   ├── BundleIncompatible     another format version
    │   └── BundleRefused          its test vector does not come out
    ├── SlotMismatch               an overlay does not fit its bundle
    ├── BadAsk                     a message that no device should send
    ├── AccessRefused              who asks may not
    │   ├── CertificateRefused     a certificate of another role, or a revoked one
    │   └── TokenRefused           nothing proves that the session is this user's
    ├── CloudUnavailable           the cloud did not answer
    │   └── Overloaded             it is busy and said when to come back
    └── RunFailed                  a part of a run ended badly

A code is stable: it travels on the wire and in exit messages. Foreign errors are translated at
two boundaries only, gRPC and onnxruntime; everything else is a bug and may crash.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar


class ConcertoError(Exception):
    """Base of every error that a caller may want to catch."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1


class InputError(ConcertoError):
    """What the user gave is wrong; nothing was written."""

    code = "bad-input"
    exit_code = 2


class UnknownName(InputError):
    """A name that nothing answers to; the message offers the nearest one."""

    code = "unknown-name"

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        nearest = get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(names)}"
        super().__init__(f"unknown {kind} {name!r}: {hint}")
        self.kind, self.name = kind, name


class BadSetting(InputError):
    """A setting has a wrong type, or a value that makes no sense."""

    code = "bad-setting"

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"setting {path!r}: {problem}")
        self.path, self.problem = path, problem


class BadLog(InputError):
    """A log that cannot be used."""

    code = "bad-log"


class ColumnMissing(BadLog):
    """A log file lacks a column."""

    code = "column-missing"

    def __init__(self, path: Path, column: str, present: Iterable[str]) -> None:
        super().__init__(
            f"{path}: no column {column!r}; it has {', '.join(present)}. "
            "Name yours with --user-col, --item-col and --time-col"
        )
        self.column = column


class BadValue(BadLog):
    """A row of a log file holds a value that is not allowed."""

    code = "bad-value"

    def __init__(self, path: Path, row: int, column: str, problem: str) -> None:
        super().__init__(f"{path}: row {row}, column {column!r}: {problem}")
        self.row, self.column = row, column


class BadNode(BadLog):
    """A file of a graph says something of a node that is not allowed."""

    code = "bad-node"

    def __init__(self, path: Path, node: str, problem: str) -> None:
        super().__init__(f"{path}: node {node!r}: {problem}")
        self.node = node


class TooSmall(BadLog):
    """A log holds too little to train, validate and test on."""

    code = "log-too-small"


class PathMissing(InputError):
    """A file or folder that was named is not there."""

    code = "path-missing"

    def __init__(self, path: Path, what: str = "file") -> None:
        super().__init__(f"{path}: no such {what}")
        self.path = path


class PortTaken(InputError):
    """Another program listens at the address."""

    code = "port-taken"

    def __init__(self, address: str) -> None:
        super().__init__(f"{address} is taken: stop what listens there, or name another port")
        self.address = address


class BundleError(ConcertoError):
    """Cloud and device do not agree about a bundle."""

    code = "bundle"


class UnknownBundle(BundleError):
    """There is no such bundle."""

    code = "unknown-bundle"

    def __init__(self, bundle_id: str) -> None:
        super().__init__(f"there is no bundle {bundle_id!r}")
        self.bundle_id = bundle_id


class BundleCorrupt(BundleError):
    """The bytes of a bundle do not match the hash that names them."""

    code = "bundle-corrupt"


class BundleIncompatible(BundleError):
    """A bundle of a format that this program does not read."""

    code = "bundle-incompatible"
    exit_code = 2


class BundleRefused(BundleError):
    """A bundle's own test vector did not come out; it was not activated."""

    code = "bundle-refused"


class SlotMismatch(ConcertoError):
    """An overlay tensor does not fit the slot of the bundle that it was made for."""

    code = "slot-mismatch"

    def __init__(self, slot: str, expected: object, got: object) -> None:
        super().__init__(f"slot {slot!r} wants {expected}, got {got}")
        self.slot, self.expected, self.got = slot, expected, got


class BadAsk(ConcertoError):
    """A message that no well-behaved device sends."""

    code = "bad-ask"


class AccessRefused(ConcertoError):
    """Who asks may not have what is asked for."""

    code = "access-refused"
    exit_code = 2


class CertificateRefused(AccessRefused):
    """The certificate of a connection gives no right to this call."""

    code = "certificate-refused"


class TokenRefused(AccessRefused):
    """A session's hello does not prove that it is its user's."""

    code = "token-refused"


class CloudUnavailable(ConcertoError):
    """The cloud did not answer; the device goes on without it."""

    code = "cloud-unavailable"
    exit_code = 2


class Overloaded(CloudUnavailable):
    """The cloud is busy and turned the ask away."""

    code = "overloaded"

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__(f"the cloud is busy: ask again in {retry_after_ms} ms")
        self.retry_after_ms = retry_after_ms


class RunFailed(ConcertoError):
    """A process of a run ended badly; what was measured so far is kept."""

    code = "run-failed"
