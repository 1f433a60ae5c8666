"""Which user is in which group: decided when the model is trained, kept beside it."""

from pathlib import Path
from typing import Final

import numpy as np

from cloud_server.checkpoints import Trained
from shared_models.contract.manifest import Manifest
from shared_models.contract.tensors import Int64Array
from shared_models.logs.activity import grouped
from shared_models.logs.prepared import PreparedLog

_FILE: Final = "groups.npy"
_NONE: Final = 0
_FIRST: Final = 1


class Assignment:
    """Groups of users, from 1 on; 0 for everybody where the bundle has none.

    Args:
        groups_U: int64; who is not in it is in the first group. None: there are no groups.
    """

    def __init__(self, groups_U: Int64Array | None) -> None:
        self._groups_U = groups_U

    def of(self, user: int) -> int:
        """The group of ``user``."""
        if self._groups_U is None:
            return _NONE
        return int(self._groups_U[user]) if user < len(self._groups_U) else _FIRST


EVERYBODY: Final = Assignment(None)
"""No groups."""


def read_assignment(manifest: Manifest, folder: Path) -> Assignment:
    """The assignment beside a model; all users in the first group where there is none.

    Where refreshes send something up, the method tells the group by that instead.
    """
    if manifest.groups is None or not manifest.shares:
        return EVERYBODY
    path = folder / _FILE
    found = np.load(path, allow_pickle=False) if path.exists() else np.zeros(0, np.int64)
    return Assignment(found)


def write_assignment(folder: Path, trained: Trained, log: PreparedLog) -> None:
    """Put the users of ``log`` into groups, where the method has any."""
    groups = trained.method.config.user_groups
    if groups is not None:
        np.save(folder / _FILE, grouped(log, groups), allow_pickle=False)
