"""Every command that the docs show is one that the programs take, whether or not a test runs it."""

import re
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

import simulator.cli
from docs.generate.commands import PROGRAMS
from shared_models.catalog import resolve
from shared_models.contract.manifest import Task
from shared_models.contract.settings import parse_settings
from simulator.compose import narrowed
from simulator.entries import read_entry
from simulator.scenario import Scenario
from tests.pages import ROOT, Command, commands, fences, pages, prose

README = ROOT / "README.md"
KINDS = re.compile(r'sh( bench)?|python|text|(yaml|json)( title="[\w./-]+")?')
# Of the shell.
PLAIN = {"ls", "mv", "printf", "source", "kill", "wait", "until", "do", "sleep", "done"}
IMAGES = {
    "concerto/simulator": "concerto",
    "concerto/cloud": "concerto-cloud",
    "concerto/device": "concerto-device",
}
EXAMPLES = {folder.name for folder in (ROOT / "docs/examples").iterdir()}
INDENTED = re.compile(r"^ {4}(?:[A-Z_]+=\S+ )?(?:concerto|make|docker|python)\b.*", re.MULTILINE)
"""Code without a fence, which nothing would look at."""
INLINE = re.compile(r"(?<!`)`((?:concerto|concerto-cloud|concerto-device) [^`\n]+)`(?!`)")


def shown(page: Path) -> list[Command]:
    """The commands in a page's blocks; the README's blocks do not say which hold some."""
    if page != README:
        blocks = [each for each in fences(page) if each.kind.split(" ")[0] == "sh"]
        return [command for block in blocks for command in commands(block)]
    found = [command for block in fences(page) for command in commands(block)]
    return [each for each in found if re.match(r"make$|docker$|\.venv/bin/", each.words[0])]


SHOWN = [command for page in (*pages(), README) for command in shown(page)]
MENTIONED = [
    (str(page.relative_to(ROOT)), mention)
    for page in (*pages(), README, *ROOT.glob("shared_models/methods/*/README.md"))
    for mention in INLINE.findall(prose(page))
]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_fence_says_what_is_in_it(page: Path) -> None:
    unsaid = [fence.line for fence in fences(page) if not KINDS.fullmatch(fence.kind)]

    assert unsaid == []
    assert INDENTED.findall(prose(page)) == []


@pytest.mark.parametrize("command", SHOWN, ids=str)
def test_a_command_is_taken(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    program = Path(command.words[0]).name

    if program in PROGRAMS:
        assert_taken(program, command.words[1:], monkeypatch)
    elif program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in command.words[1:] if "=" not in word} <= set(targets)
    elif command.words[:2] == ("docker", "compose"):
        assert_composed(command)
    elif command.words[:2] == ("docker", "run"):
        image = next(index for index, word in enumerate(command.words) if word in IMAGES)
        assert_taken(IMAGES[command.words[image]], command.words[image + 1 :], monkeypatch)
    elif program == "python":
        assert command.words[1] == "-m"
        assert find_spec(command.words[2]) is not None
    else:
        assert program in PLAIN


@pytest.mark.parametrize(("page", "mention"), MENTIONED)
def test_a_command_in_a_sentence_has_the_options_that_it_names(page: str, mention: str) -> None:
    program, *words = mention.split()
    command: Any = get_command(PROGRAMS[program])
    while hasattr(command, "commands") and words and not words[0].isupper():
        assert words[0] in command.commands
        command = command.commands[words.pop(0)]

    known = {option for each in command.params for option in each.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_a_command_that_does_not_exist_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = ("run --devises 4", "replay", "run --method duet --set duet.max_leg=1", "inspect")

    for words in wrong:
        with pytest.raises(Exception, match=r"No such|setting|Missing"):
            assert_taken("concerto", tuple(words.split()), monkeypatch)


def assert_taken(program: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The program takes these words; where they make a scenario, also its settings."""
    command: Any = get_command(PROGRAMS[program])
    name, rest, context = program, list(words), None
    while hasattr(command, "commands"):
        context = command.make_context(name, rest, parent=context)
        left = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, left)
    command.make_context(name, list(rest), parent=context)
    if program == "concerto" and words[0] in ("run", "compare"):
        assert_makes_sense(words, monkeypatch)


def assert_makes_sense(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario is one, and the cloud would take what is set for each of its methods."""
    files = [after for option, after in pairwise(words) if option in ("--scenario", "--faults")]
    if not all(Path(file).exists() for file in files):
        return  # of the reader's own
    played: list[Scenario] = []
    monkeypatch.setattr(simulator.cli, "_play", lambda scenario, *_: played.append(scenario))
    monkeypatch.setattr(simulator.cli, "_play_on_graph", lambda *_: None)

    simulator.cli.app(list(words), standalone_mode=False)

    for scenario in played:
        for label in scenario.methods:
            assert_resolves(narrowed(scenario, read_entry(label)))


def assert_resolves(scenario: Scenario) -> None:
    (method,) = scenario.methods
    if method in EXAMPLES:
        return  # in a tree of its own, where tests/e2e/test_docs.py plays it
    settings = parse_settings(scenario.cloud_settings(method))

    assert resolve(method, 1, scenario.trunk.name, settings).task is Task.RANKING


def assert_composed(command: Command) -> None:
    """The services and variables that an engine is told of are those of the compose file."""
    text = (ROOT / "docker" / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]

    named = [word.partition("=")[0] for word in command.words if re.match(r"[a-z]+=\d+$", word)]
    assert set(named) <= set(services)
    for name, _, value in (each.partition("=") for each in command.environment):
        assert f"${{{name}" in text
        if name == "CONCERTO":
            verb, *_ = value.split()
            assert verb in get_command(PROGRAMS["concerto"]).commands
