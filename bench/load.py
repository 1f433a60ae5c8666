"""What the clients of an overloaded cloud share: their options, and when rankings fall due."""

import argparse
from pathlib import Path

import numpy as np

from shared_models.contract.metrics import Float64Array


def client_options(devices: int) -> argparse.ArgumentParser:
    """Options of a client of so many devices, if nothing else is said."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--devices", type=int, default=devices)
    parser.add_argument("--rate", type=float, default=0.0, help="a second; 0: a closed loop")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warm-up", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def due_moments(options: argparse.Namespace) -> Float64Array:
    """Moments of a Poisson process of the wanted rate, warm-up included, in ascending order."""
    return arrivals(
        options.rate, options.warm_up + options.seconds, np.random.default_rng(options.seed)
    )


def arrivals(rate: float, seconds: float, rng: np.random.Generator) -> Float64Array:
    """Moments of a Poisson process of ``rate`` a second, in ascending order."""
    count = rng.poisson(rate * seconds)
    return np.sort(rng.uniform(0.0, seconds, count))
