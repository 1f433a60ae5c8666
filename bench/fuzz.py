"""Mutated inputs for everything that is parsed from outside: no crash, no memory without bound.

    python -m bench.fuzz                    a million inputs, spread over all targets
    python -m bench.fuzz --inputs 10000     a hundredth of that
    python -m bench.fuzz --target bundle    one target

Inputs are mutated by libFuzzer, steered by the branches that they reach (atheris). An input that
breaks its target is kept in the folder named by --findings; a target takes it from there again with
``--target NAME --inputs 0 --findings DIR``.
"""

import argparse
import resource
import subprocess
import sys
import time
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import atheris

with atheris.instrument_imports(include=["shared_models", "device_client", "simulator", "protos"]):
    from bench.fuzz_targets import TARGETS

_ROOM_BYTES: Final = 2 << 30
"""Address space that a target may take beside what its libraries have."""
_LONGEST: Final = 4096
_SLOWEST_S: Final = 20


def main() -> None:
    """Fuzz one target in this process, or each in one of its own."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--inputs", type=int, default=1_000_000)
    asked.add_argument("--target", choices=list(TARGETS))
    asked.add_argument("--findings", type=Path, default=Path("runs/fuzz"))
    asked.add_argument("--seed", type=int, default=1)
    given = asked.parse_args()
    if given.target:
        fuzz(given.target, given.inputs, given.findings, given.seed)
        return
    share = given.inputs / sum(target.share for target in TARGETS.values())
    shares = {name: ceil(share * target.share) for name, target in TARGETS.items()}
    broken = [
        name for name in TARGETS if not _survives(name, shares[name], given.findings, given.seed)
    ]
    print(f"{sum(shares.values()):,} inputs, {len(broken)} targets broken {' '.join(broken)}")
    sys.exit(bool(broken))


def fuzz(name: str, inputs: int, findings: Path, seed: int) -> None:
    """Feed mutated inputs to a target; never returns."""
    target = TARGETS[name]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _ROOM_BYTES, used + _ROOM_BYTES))
    findings.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="corpus-") as folder:
        for number, content in enumerate(target.seeds):
            (Path(folder) / f"seed-{number}").write_bytes(content)
        options = {
            "runs": inputs,
            "seed": seed,
            "max_len": _LONGEST,
            "timeout": _SLOWEST_S,
            "artifact_prefix": f"{findings}/{name}-",
            "verbosity": 0,
        }
        flags = [f"-{option}={value}" for option, value in options.items()]
        atheris.Setup([sys.argv[0], *flags, folder], target)
        atheris.Fuzz()


def _survives(name: str, inputs: int, findings: Path, seed: int) -> bool:
    start = time.monotonic()
    own = ("--target", name, "--inputs", str(inputs), "--findings", str(findings))
    done = subprocess.run(
        [sys.executable, "-m", "bench.fuzz", *own, "--seed", str(seed)],
        check=False,
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - start
    verdict = "stands" if done.returncode == 0 else "BROKEN"
    print(f"{name:24}{inputs:>12,} inputs {seconds:>7.0f} s  {verdict}", flush=True)
    if done.returncode:
        print(*done.stderr.splitlines()[-25:], sep="\n", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    main()
