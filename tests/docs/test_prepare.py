"""What the containers' preparation does to the folders that it is given."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.pages import ROOT

ROLES = ("cloud", "simulator", "device")
CONCERTO = """#!/bin/sh
for last; do
  case $before in --ca) ca=$last;; --out) out=$last;; esac
  before=$last
done
mkdir -p "$ca" && touch "$ca/ca.pem"
if [ "$2" = issue ]; then mkdir -p "$out" && touch "$out/cert.pem"; fi
"""
CHOWN = """#!/bin/sh
echo "$@" >> chowned
"""


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """The containers' folders, after their preparation ran twice."""
    home, programs = tmp_path / "concerto", tmp_path / "bin"
    for folder in ("ca", "runs", "cache", *(f"identities/{role}" for role in ROLES)):
        (home / folder).mkdir(parents=True)
    programs.mkdir()
    for name, text in {"concerto": CONCERTO, "chown": CHOWN}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    script = (ROOT / "docker" / "prepare.sh").read_text().replace("/concerto/", f"{home}/")
    shell, path = shutil.which("sh") or "sh", f"{programs}:{os.environ['PATH']}"
    for _ in range(2):
        subprocess.run(
            [shell, "-c", script], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True
        )
    return home


def test_the_hosts_folder_of_results_stays_its_owners_and_takes_those_of_containers(
    prepared: Path,
) -> None:
    runs = prepared / "runs"
    chowned = (prepared.parent / "chowned").read_text().split()

    assert runs.stat().st_mode & 0o7777 == 0o1777
    assert str(runs) not in chowned
    assert str(prepared / "cache") in chowned


def test_every_kind_of_container_has_an_identity(prepared: Path) -> None:
    identities = prepared / "identities"

    assert all((identities / role / "cert.pem").is_file() for role in ROLES)
