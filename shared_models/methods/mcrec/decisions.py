"""Decision data: what each mechanism would have brought at a moment of the log, and its label.

Counterfactual, and exact: what users took next is known, and all three rankers can be asked about
it. At a moment inside a session, when its list is ``age`` events old, the outcome of a mechanism is
taken over the next K exposures of the session:

- session: the list as it is;
- refresh: a list made now, kept from now on;
- device: the candidates re-ranked before each exposure, with the old list as prior.

An exposure's outcome is the share of N drawn items that rank below the one taken, ties half; a
mechanism's is the sum over the exposures that are left in the session, over K: what it brings late
in a session is little. Age and drawn items come from the generator alone.
"""

# Shapes: B rows, H history, G events in the uplink, K exposures, N drawn items, C = 1 + N of an
# exposure, M mechanisms.

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from shared_models.layers.sequence import cut_windows
from shared_models.method import Batch
from shared_models.methods.mcrec.config import Config
from shared_models.methods.mcrec.network import REFRESH, McrecNetwork

_ROWS: Final = 16


class Decisions(NamedTuple):
    """Moments, and what came of each mechanism.

    Attributes:
        event_ids_BG: int64, the uplink's window now.
        listed_ids_BG: int64, the same when the list was made.
        outcomes_BM: float32, in the order of `MECHANISMS`.
    """

    event_ids_BG: Tensor
    listed_ids_BG: Tensor
    outcomes_BM: Tensor


def decisions(
    network: McrecNetwork, config: Config, batch: Batch, rng: torch.Generator
) -> Decisions:
    """The outcomes at each row of a batch of sessions.

    Args:
        network: its two rankers, trained; they are not moved.
        config: horizon, windows and how many items are drawn.
        batch: with sessions: ``history`` ends where the exposures do.
        rng: of ages and drawn items.
    """
    assert batch.since_B is not None  # noqa: S101 - rows of sessions have it
    assert batch.left_B is not None  # noqa: S101
    network.eval()
    left_B, rows = batch.left_B, len(batch.history_BH)
    age_B = 1 + (torch.rand(rows, generator=rng).to(left_B.device) * batch.since_B).long()
    candidates_BKC, shown_BK = _exposures(config, batch, rng)
    with torch.no_grad():
        now_BG, then_BG = (
            cut_windows(batch.history_BH, config.cloud_window, left_B + back) for back in (0, age_B)
        )
        kept_BKC, fresh_BKC = (
            _scored(network.cloud, window_BG, candidates_BKC.flatten(1)).view_as(candidates_BKC)
            for window_BG in (then_BG, now_BG)
        )
        own_BKC = torch.stack(
            [
                network.device(
                    cut_windows(batch.history_BH, config.features.window, left_B - place),
                    candidates_BKC[:, place],
                    kept_BKC[:, place],
                )
                for place in range(config.horizon)
            ],
            dim=1,
        )
    outcomes = [_outcome(scores, shown_BK) for scores in (kept_BKC, fresh_BKC, own_BKC)]
    return Decisions(now_BG, then_BG, torch.stack(outcomes, dim=-1))


def _scored(ranker: nn.Module, windows_BG: Tensor, candidates_BC: Tensor) -> Tensor:
    """Logits (B, C): on a processor few rows at once, so that all between layers fits its cache."""
    rows = _ROWS if windows_BG.device.type == "cpu" else len(windows_BG)
    parts = zip(torch.split(windows_BG, rows), torch.split(candidates_BC, rows), strict=True)
    return torch.cat([ranker(*part) for part in parts])


def labels(outcomes_BM: Tensor, cost: float, temperature: float) -> Tensor:
    """How much each mechanism is the best once a refresh is paid for: (B, M), summing to 1.

    Args:
        outcomes_BM: of each, or what is expected of it.
        cost: of a refresh, in the unit of outcomes.
        temperature: of the smoothing, above 0.
    """
    paid_BM = outcomes_BM.clone()
    paid_BM[:, REFRESH] -= cost
    return torch.softmax(paid_BM / temperature, dim=-1)


def _exposures(config: Config, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Candidates (B, K, 1 + N) of each exposure, what was taken first, and which exposures are."""
    assert batch.left_B is not None  # noqa: S101
    history_BH, left_B1 = batch.history_BH, batch.left_B[:, None]
    place_BK = torch.arange(config.horizon, device=history_BH.device)[None].expand(
        len(history_BH), -1
    )
    index_BK = (history_BH.shape[1] - left_B1 + place_BK).clamp(max=history_BH.shape[1] - 1)
    taken_BK = history_BH.gather(1, index_BK)
    shape = (*taken_BK.shape, config.negatives)
    drawn_BKN = torch.randint(1, config.features.items + 1, shape, generator=rng)
    candidates_BKC = torch.cat([taken_BK[..., None], drawn_BKN.to(history_BH.device)], dim=-1)
    return candidates_BKC, place_BK < left_B1


def _outcome(scores_BKC: Tensor, shown_BK: Tensor) -> Tensor:
    """Share of drawn items below the taken one, ties half, summed over exposures, over K: (B,)."""
    taken_BK1, drawn_BKN = scores_BKC[..., :1], scores_BKC[..., 1:]
    below_BKN = (taken_BK1 > drawn_BKN).float() + 0.5 * (taken_BK1 == drawn_BKN).float()
    outcome_B: Tensor = (below_BKN.mean(-1) * shown_BK).mean(1)
    return outcome_B
