"""The floors of the tree, where import-linter does not look."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A library may look whether torch is there (polars does); what counts is that nothing loads it.
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module({package!r})
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
    print(module.name)
loaded = sorted({forbidden!r} & set(sys.modules))
sys.exit(f"{{loaded}} are not for {package}" if loaded else 0)
"""


def import_all(package: str, forbidden: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    code = IMPORT_ALL.format(package=package, forbidden=set(forbidden))
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("device_client", ("torch", "onnx", "polars", "cryptography", "cloud_server", "simulator")),
        ("shared_models.contract", ("torch", "onnx", "polars", "onnxruntime", "cryptography")),
        ("shared_models.logs", ("torch", "onnx", "onnxruntime", "grpc")),
        ("simulator", ("torch", "onnx", "cloud_server")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_package_imports_without_what_it_must_not_need(
    package: str, forbidden: tuple[str, ...]
) -> None:
    done = import_all(package, forbidden)

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("\n") >= 4


def test_the_check_sees_what_a_package_loads() -> None:
    done = import_all("shared_models.layers", ("torch",))

    assert done.returncode != 0
    assert "['torch'] are not for shared_models.layers" in done.stderr


def test_settings_of_methods_resolve_without_torch() -> None:
    code = (
        "import sys; from shared_models.catalog import resolve; resolve('duet', 9, 'din', {});"
        "assert 'torch' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_a_host_of_clouds_holds_nothing_of_what_they_need() -> None:
    code = (
        "import sys; import cloud_server.cli, cloud_server.host;"
        "assert not {'torch', 'onnxruntime', 'polars'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_no_source_file_exceeds_300_lines() -> None:
    packages = ("shared_models", "cloud_server", "device_client", "simulator")
    files = [path for name in packages for path in (ROOT / name).rglob("*.py")]

    assert [path.name for path in files if len(path.read_text().splitlines()) > 300] == []
