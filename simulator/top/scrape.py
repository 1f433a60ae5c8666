"""What an endpoint shows of a process at one time, read as Prometheus would."""

import http.client
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from shared_models.contract.errors import BadSetting, InputError

DEFAULT: Final = ("127.0.0.1:9464", "127.0.0.1:9465")
"""Where a cloud and a simulator are looked for."""
_PATIENCE_S: Final = 5.0
_MOST_BYTES: Final = 16 << 20

Labels = Mapping[str, str]


class NobodyAnswers(InputError):
    """There is no endpoint, or it does not show what a process of ours counts."""

    def __init__(self, url: str, problem: object) -> None:
        super().__init__(
            f"{url}: {problem}; start a cloud or a run with --metrics, and name its address"
        )
        self.url = url


@dataclass(frozen=True, slots=True)
class Scrape:
    """All samples of a process.

    Attributes:
        url: of the endpoint.
        at: seconds since 1970 when it was read.
        samples: by name, each with its labels.
    """

    url: str
    at: float
    samples: Mapping[str, Sequence[tuple[Labels, float]]]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of a name that have these labels."""
        wanted = labels.items()
        return sum(value for own, value in self.samples.get(name, ()) if wanted <= own.items())

    def labels(self, name: str, *labels: str) -> list[tuple[str, ...]]:
        """The values of some labels in the samples that have them all, each combination once."""
        having = (own for own, _ in self.samples.get(name, ()) if set(labels) <= own.keys())
        return list(dict.fromkeys(tuple(own[label] for label in labels) for own in having))


def endpoint(text: str) -> str:
    """The URL of ``HOST:PORT``, of ``PORT`` here, or of a URL with or without its path.

    Raises:
        BadSetting: it is neither.
    """
    scheme, _, rest = text.rpartition("://")
    place, _, path = rest.partition("/")
    if rest.isdecimal():
        place = f"127.0.0.1:{rest}"
    if scheme not in ("", "http", "https") or not place or any(map(str.isspace, text)):
        raise BadSetting("url", f"write HOST:PORT or http://HOST:PORT/metrics, not {text!r}")
    return f"{scheme or 'http'}://{place}/{path or 'metrics'}"


def scrape(url: str, at: float) -> Scrape:
    """Read an endpoint.

    Args:
        url: as `endpoint` gives it.
        at: seconds since 1970, now.

    Raises:
        NobodyAnswers: nobody does, or not with metrics of ours.
    """
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE_S) as answer:  # noqa: S310 - http only
            text = answer.read(_MOST_BYTES).decode()
        samples = _samples(text)
    except urllib.error.URLError as error:
        raise NobodyAnswers(url, f"nobody answers ({error.reason})") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NobodyAnswers(url, f"no endpoint of metrics ({error})") from error
    if not any(name.startswith("concerto_") for name in samples):
        raise NobodyAnswers(url, "shows no metrics of Concerto")
    return Scrape(url, at, samples)


def _samples(text: str) -> Mapping[str, Sequence[tuple[Labels, float]]]:
    """By name.

    Raises:
        ValueError: it is no metrics, or a bucket's bound is no number.
    """
    samples = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            float(sample.labels.get("le", "inf"))
            samples[sample.name].append((sample.labels, sample.value))
    return samples
