"""``concerto top``: what clouds and simulators do now."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer
from rich.live import Live

from simulator.options import console
from simulator.top.change import Change
from simulator.top.scrape import DEFAULT, NobodyAnswers, Scrape, endpoint, scrape
from simulator.top.view import view


def top(
    urls: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[URL]...", help=f"Endpoints; by default who answers of {', '.join(DEFAULT)}."
        ),
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show one frame, and end.")] = False,
) -> None:
    """Show what clouds and simulators do, anew every few seconds, until Ctrl-C."""
    first = _look([endpoint(url) for url in urls]) if urls else _any_of(DEFAULT)
    frame = [Change(each) for each in first]
    if once:
        console().print(view(frame))
        return
    with suppress(KeyboardInterrupt), Live(view(frame), console=console()) as live:
        _watch(live, frame, every)


def _watch(live: Live, frame: Sequence[Change], every: float) -> None:
    """Show every look beside the last one that was answered."""
    latest = {change.now.url: change.now for change in frame}
    while True:
        time.sleep(every)
        shown: list[Change | NobodyAnswers] = []
        for url, before in latest.items():
            try:
                now = scrape(url, time.time())
            except NobodyAnswers as missing:
                shown.append(missing)
                continue
            shown.append(Change(now, before))
            latest[url] = now
        live.update(view(shown))


def _look(urls: Sequence[str]) -> list[Scrape]:
    return [scrape(url, time.time()) for url in urls]


def _any_of(places: Sequence[str]) -> list[Scrape]:
    """Whoever answers.

    Raises:
        NobodyAnswers: nobody does.
    """
    found: list[Scrape] = []
    missing: NobodyAnswers | None = None
    for place in places:
        try:
            found += _look([endpoint(place)])
        except NobodyAnswers as error:
            missing = missing or error
    if missing and not found:
        raise missing
    return found
