"""The reference of the command line, from the commands themselves."""

from collections.abc import Iterator
from typing import Any, Final

import typer
from typer.main import get_command

import cloud_server.cli
import device_client.cli
import simulator.cli
from docs.generate.markdown import code, plain, table

PROGRAMS: Final = {
    "concerto": simulator.cli.app,
    "concerto-cloud": cloud_server.cli.app,
    "concerto-device": device_client.cli.app,
}
_EVERYWHERE: Final = {"help", "install_completion", "show_completion"}
_INTRODUCTION: Final = """# Command line

Three programs, one for each side. Wherever `--set` is taken, it may be repeated and names a
[setting](settings.md) by its path. Exit codes: 0 done, 1 the run failed, 2 the input was wrong,
130 interrupted.
"""


def page() -> str:
    """The page."""
    parts = [_INTRODUCTION]
    for name, app in PROGRAMS.items():
        command = get_command(app)
        parts.append(f"## {name}\n\n{plain(command.help or '').partition(': ')[2].capitalize()}\n")
        parts += _verbs(command, name)
    return "\n".join(parts)


def _verbs(group: Any, path: str) -> Iterator[str]:
    """The commands of a group, those of its groups in their place."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _verbs(command, f"{path} {name}")
        else:
            yield _verb(command, f"{path} {name}")


def _verb(command: Any, path: str) -> str:
    context = typer.Context(command, info_name=path)
    shown = [each for each in command.params if each.name not in _EVERYWHERE]
    records = [each.get_help_record(context) for each in shown]
    rows = [(code(written), about) for written, about in records]
    options = table(("argument or option", "what"), rows) if rows else ""
    return f"### {path}\n\n{plain(command.help)}\n\n{options}"
