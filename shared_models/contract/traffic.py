"""What bytes between a device and its cloud serve: one vocabulary for whoever counts them."""

from typing import Final

BUNDLE: Final = "bundle"
"""What a process needs before it ranks: which bundle is released, and its bytes."""
CONTROL: Final = "control"
"""Hellos, which open sessions."""
REFRESH: Final = "refresh"
"""Asks for slot values."""
GROUP: Final = "group"
"""Asks for what a group of users shares."""
RANK: Final = "rank"
"""Asks to rank in the cloud."""
UPLOAD: Final = "upload"
"""Observed events on their way to the journal."""
CONTRIBUTE: Final = "contribute"
"""What a device learnt, on its way to the cloud."""

PAYLOAD: Final = (REFRESH, GROUP, RANK, UPLOAD, CONTRIBUTE)
"""Purposes that serve recommendations."""
APART: Final = (BUNDLE, CONTROL)
"""Purposes that serve no single recommendation and are reported apart."""
PURPOSES: Final = (*PAYLOAD, *APART)
