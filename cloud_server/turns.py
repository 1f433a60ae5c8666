"""Of a user's sessions only the newest one may write.

A device that died may have sent events which are still on their way when its next life asks how
many are stored. Taken after that, they would stand under numbers that the next life uses for other
events, and these would pass for repeated ones: acknowledged, and never stored.
"""

from shared_models.contract.errors import BadAsk


class Turns:
    """Whose turn it is; holds no more than there are open sessions."""

    def __init__(self) -> None:
        self._newest: dict[int, object] = {}

    def begin(self, user: int) -> object:
        """A session of ``user`` begins, and every other one is out of turn; what names it."""
        turn = self._newest[user] = object()
        return turn

    def require(self, user: int, turn: object) -> None:
        """Let only the newest session go on.

        Raises:
            BadAsk: another one of ``user`` has begun since.
        """
        if self._newest.get(user) is not turn:
            raise BadAsk(f"a newer session of user {user} has begun: this one may not write")

    def end(self, user: int, turn: object) -> None:
        """A session is over."""
        if self._newest.get(user) is turn:
            del self._newest[user]
