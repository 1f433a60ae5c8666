"""What a run plays: methods as they are, or with settings of their own.

An entry is ``duet``, ``duet[device.refresh.rule=never]``, or a name for one of these (`PRESETS`).
That text is its label in tables, in ``metrics.json``, in the ledger; ``stale: duet[...]`` gives it
another one.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared_models.contract.errors import BadSetting

PRESETS: Final[Mapping[str, str]] = {
    "never": "duet[device.refresh.rule=never]",
    "always-fresh": "duet[device.refresh.rule=always]",
    "latent": "duet[duet.delivery=code,cloud.codec=i8row]",
    "dense-only": "duet[duet.delivery=dense]",
    "whole-model": "duet[duet.delivery=model]",
    "generator-on-device": "duet[duet.delivery=generator]",
    "capacity-control": "additive",
    "cloud-only": "base[base.ranked=cloud]",
    "pnn": "cigar[cigar.exchange=false,cigar.prototypes=false]",
    "wo-pn": "cigar[cigar.prototypes=false]",
    "wo-cdgnn": "cigar[cigar.exchange=false]",
    "trunk-continued": "pinrec[pinrec.plugins=none]",
    "pinrec-device": "pinrec[pinrec.plugins=device]",
    "pinrec-federated": "pinrec[pinrec.plugins=federated]",
}
"""Baselines, controls and ablations that keep claims honest, and other ways to deliver or learn."""
BASELINES: Final = ("popularity", "base", "finetune", "duet", "ecrec", "cigar", "pinrec", *PRESETS)
"""What ``concerto compare --all`` plays."""
_LABEL: Final = re.compile(r"(.+):\s+(.+)")
_ENTRY: Final = re.compile(r"([a-z0-9_-]+)(?:\[(.*)\])?", re.IGNORECASE)
_LONGEST: Final = 80
_NEXT_SETTING: Final = re.compile(r",\s*(?=[\w.]+=)")


@dataclass(frozen=True, slots=True)
class Entry:
    """A method, and what is set for it alone.

    Attributes:
        label: what it is called.
        method: the method's name.
        assignments: ``path=value`` settings over those of the scenario.
    """

    label: str
    method: str
    assignments: tuple[str, ...] = ()


def read_entry(text: str) -> Entry:
    """Read ``method``, ``method[path=value,path=value]`` or a preset, with or without a label.

    Raises:
        BadSetting: it is none of these.
    """
    named = _LABEL.fullmatch(text)
    label, what = (named[1], named[2]) if named else (text, text)
    found = _ENTRY.fullmatch(PRESETS.get(what, what))
    if found is None:
        raise BadSetting("methods", f"write METHOD or METHOD[path=value,...], got {text!r}")
    settings = found[2]
    return Entry(label, found[1], tuple(_NEXT_SETTING.split(settings)) if settings else ())


def slug(label: str) -> str:
    """``label`` as a part of a file's name; what no file can be called gets a hash in it."""
    name = re.sub(r"[^\w.=+-]+", "-", label)[:_LONGEST]
    return name if name == label else f"{name}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def joined(texts: Sequence[str]) -> str:
    """The labels of entries as a part of a folder's name, or how many there are of them."""
    names = "-".join(slug(read_entry(text).label) for text in texts)
    return names if len(names) <= _LONGEST else f"{len(texts)}-entries"
