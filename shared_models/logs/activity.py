"""Groups of users: by how active they are, or as a feature of theirs says."""

# Shapes: U users, G groups.

from itertools import count

import numpy as np

from shared_models.config import UserGroups
from shared_models.contract.errors import BadSetting, UnknownName
from shared_models.contract.tensors import Int64Array
from shared_models.logs.prepared import PreparedLog


def grouped(log: PreparedLog, spec: UserGroups) -> Int64Array:
    """The group of each user of ``log``, as ``spec`` says: int64 (U,), from 1 to G.

    Raises:
        UnknownName: users have no such feature.
        BadSetting: the feature has more values than there are groups, or a user has none.
    """
    if spec.by == "activity":
        return by_activity(events_of_users(log), spec.count)
    return _by_feature(log, spec)


def events_of_users(log: PreparedLog) -> Int64Array:
    """Events of each user in the training part, what was shown in vain included: int64 (U,)."""
    return np.bincount(log.train["user"].to_numpy(), minlength=log.users)


def by_activity(events_U: Int64Array, groups: int) -> Int64Array:
    """Users in groups as equal in size as can be, the least active in group 1.

    Users of equal activity stay together, so a group may be larger than others, or empty.

    Args:
        events_U: int64 events of each user.
        groups: G.

    Returns:
        int64 (U,), from 1 to G.
    """
    shares = np.arange(1, groups) / groups
    cuts = np.quantile(events_U, shares, method="lower")
    return 1 + np.searchsorted(cuts, events_U, side="left").astype(np.int64)


def _by_feature(log: PreparedLog, spec: UserGroups) -> Int64Array:
    """Values in their own order are the groups."""
    table = log.user_table.sort("user")
    features = [name for name in table.columns if name not in ("user", "raw")]
    if spec.by not in features:
        raise UnknownName("feature of users", spec.by, ["activity", *features])
    column = table[spec.by]
    values = column.unique().sort().to_list()
    if column.null_count():
        raise BadSetting("grouped_by", f"{column.null_count()} users have no {spec.by}")
    if len(values) > spec.count:
        raise BadSetting(
            "grouped_by", f"{spec.by} has {len(values)} values, there are {spec.count} groups"
        )
    numbers = dict(zip(values, count(1), strict=False))
    return np.array([numbers[value] for value in column.to_list()], np.int64)
