"""Trained bundles, kept so that the same model is trained once.

An entry is named by everything that shapes the model: method and training settings, the cloud's
code version, the prepared log, the split and the seed. A training that was cut short stays in its
entry and goes on where it was; a lock keeps two runs from training the same thing twice.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from filelock import AsyncFileLock, Timeout

from shared_models.contract.bundle import Bundle, BundleStore
from shared_models.contract.errors import BadSetting, InputError, RunFailed
from simulator.commands import HERE, Elsewhere, started
from simulator.fleet import Fleet, Process
from simulator.scenario import Scenario
from simulator.sites import CLOUD

_REPORT: Final = "training.json"
"""The last file that a training writes."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A method with every setting decided, as the cloud understood it.

    Attributes:
        method: its name.
        trunk: the name of its backbone, or of the graph it is trained on.
        arguments: command-line arguments by which the cloud is asked for it.
        key: SHA-256 over all that shapes the weights, code version included.
        export_key: SHA-256 over what shapes the bundle besides.
        config: the settings.
    """

    method: str
    trunk: str
    arguments: tuple[str, ...]
    key: str
    export_key: str
    config: dict[str, Any]

    def title(self, seed: int) -> str:
        """As in ``duet (sasrec, seed 0)``; the cloud calls it the same."""
        return f"{self.method} ({self.trunk}, seed {seed})"


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained method: the folder that a cloud serves, and what lies in it."""

    bundles: Path
    bundle: Bundle


def resolve(scenario: Scenario, method: str, elsewhere: Elsewhere = HERE) -> Resolved:
    """Let the cloud check ``method``, the trunk and their settings; nothing is written.

    Raises:
        InputError: a name or a setting is wrong; the message is the cloud's.
    """
    trunk, settings = scenario.trunk.name, scenario.cloud_settings(method)
    arguments = ("--method", method, "--trunk", trunk)
    found = resolved(method, trunk, arguments, settings, elsewhere, scenario.cloud_flags)
    if "nodes" in found.config:
        raise BadSetting("methods", f"{method} classifies the nodes of a graph: give --prefix")
    return found


def resolved(
    method: str,
    kind: str,
    arguments: tuple[str, ...],
    settings: Sequence[str],
    elsewhere: Elsewhere = HERE,
    serving: Sequence[str] = (),
) -> Resolved:
    """Let the cloud check what it would be asked for; nothing is written.

    Args:
        method: its name.
        kind: what stands beside it in titles: its trunk, or the graph it is trained on.
        arguments: of the cloud's command line.
        settings: ``path=value``.
        elsewhere: whose commands run on another machine.
        serving: ``path=value`` of the cloud that is to serve it.

    Raises:
        InputError: a name or a setting is wrong; the message is the cloud's.
    """
    arguments = (*arguments, *(part for setting in settings for part in ("--set", setting)))
    asked = ("resolve", *arguments, *(part for flag in serving for part in ("--serve", flag)))
    with TemporaryDirectory(prefix="concerto-") as folder:
        log = Path(folder) / "resolve.log"
        process = Process("resolve", log, started(CLOUD, asked, log, elsewhere))
        if process.popen.wait() == InputError.exit_code:
            raise process.failure()
        if process.popen.wait():
            raise RunFailed(process.last_words.removeprefix("error: "))
        answer = json.loads(process.last_words)
    keys = answer["key"], answer["export_key"]
    return Resolved(method, kind, arguments, *keys, answer["config"])


def entry_key(resolved: Resolved, log_hash: str, split: str, seed: int) -> str:
    """SHA-256 over everything that shapes a trained model."""
    parts = json.dumps([resolved.method, resolved.key, log_hash, split, seed])
    return hashlib.sha256(parts.encode()).hexdigest()


class BundleCache:
    """Finds trained bundles, or has the cloud train them.

    Args:
        root: of all caches.
        split: of the log.
        log: what to train on.
        log_hash: names its content.
        option: how the cloud is told of it: ``--log``, or ``--prefix`` of a graph.
        elsewhere: whose commands run on another machine.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        log: Path,
        log_hash: str,
        *,
        option: str = "--log",
        elsewhere: Elsewhere = HERE,
    ) -> None:
        self._root = root / "trained"
        self._split, self._option, self._elsewhere = split, option, elsewhere
        self._log, self._log_hash = log, log_hash

    def entry(self, resolved: Resolved, seed: int) -> Path:
        """The folder of a model, trained or not."""
        return self._root / entry_key(resolved, self._log_hash, self._split, seed)

    async def trained(self, resolved: Resolved, seed: int, say: Say) -> Trained:
        """The bundle of ``resolved`` with ``seed``; ``say`` hears what is done and how it goes.

        Raises:
            RunFailed: the training ended badly; what it reached is kept, and resumed next time.
        """
        entry = self.entry(resolved, seed)
        entry.mkdir(parents=True, exist_ok=True)
        title = resolved.title(seed)
        bundles = entry / "bundles" / resolved.export_key
        async with _locked(entry / "lock", lambda: say(f"waits: another run trains {title}")):
            if resolved.method in BundleStore(bundles).released():
                say(f"found {title}, trained before")
            elif (entry / _REPORT).is_file():
                say(f"exports {title}, trained before")
                await self._perform("export", resolved, seed, entry, say)
            else:
                say(f"trains {title}")
                await self._perform("train", resolved, seed, entry, say)
        return _read(bundles, resolved.method)

    async def _perform(
        self, verb: str, resolved: Resolved, seed: int, entry: Path, say: Say
    ) -> None:
        """Let the cloud train, or export what was trained."""
        bundles = entry / "bundles" / resolved.export_key
        place = (self._option, str(self._log), "--seed", str(seed))
        folders = ("--out", str(entry), "--bundles", str(bundles))
        arguments = (verb, *resolved.arguments, *place, *folders)
        async with Fleet(entry, self._elsewhere) as fleet:
            async for line in fleet.complete(verb, CLOUD, *arguments):
                if line.startswith(resolved.title(seed)):
                    say(line)


@asynccontextmanager
async def _locked(path: Path, on_wait: Callable[[], None]) -> AsyncIterator[None]:
    lock = AsyncFileLock(path)
    try:
        await lock.acquire(timeout=0)
    except Timeout:
        on_wait()
        await lock.acquire()
    try:
        yield
    finally:
        await lock.release()


def _read(bundles: Path, method: str) -> Trained:
    store = BundleStore(bundles)
    released = store.released()
    if method not in released:
        raise RunFailed(f"the training of {method} left no bundle in {bundles}")
    return Trained(bundles, store.get(released[method]))
