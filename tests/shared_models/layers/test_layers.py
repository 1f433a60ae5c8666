"""Blocks: windows cut where they should be, attention that sees no future and no padding."""

import pytest
import torch
from torch import nn

from shared_models.config import TrunkConfig
from shared_models.contract.features import FeatureSpec, FieldSpec
from shared_models.layers.attention import AttentionBlock, causal
from shared_models.layers.embedding import ItemEmbedding, settle
from shared_models.layers.groups import by_group
from shared_models.layers.hypernetwork import CodeEncoder, WeightWriter
from shared_models.layers.mlp import MLP, SlottedMLP, slotted_mlp
from shared_models.layers.sequence import cut_windows, newest, order, recency
from shared_models.trunks.din import DIN
from shared_models.trunks.ranker import TRUNKS
from shared_models.trunks.trunk import SequenceTrunk


def test_windows_are_cut_where_each_row_says() -> None:
    history = torch.tensor([[0, 0, 1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 9]])

    windows = cut_windows(history, 3, torch.tensor([0, 2, 1]))

    assert windows.tolist() == [[2, 3, 4], [2, 3, 4], [0, 0, 0]]


def test_a_window_longer_than_history_is_padded_on_the_right() -> None:
    history = torch.tensor([[0, 7, 8]])

    assert cut_windows(history, 5, 1).tolist() == [[7, 0, 0, 0, 0]]


def test_recency_counts_back_from_the_newest_item() -> None:
    assert recency(torch.tensor([[4, 5, 6, 0]]), 2).tolist() == [[1, 1, 0, 0]]


def test_order_counts_on_from_the_oldest_item() -> None:
    assert order(torch.tensor([[4, 5, 6, 0]]), 3).tolist() == [[0, 1, 2, 2]]


def test_the_newest_state_of_an_empty_window_is_zero() -> None:
    states = torch.ones(2, 3, 4)

    found = newest(states, torch.tensor([[1, 2, 0], [0, 0, 0]]))

    assert found.sum(1).tolist() == [4, 0]


def test_changing_the_future_changes_no_past_state() -> None:
    torch.manual_seed(0)
    block, x = AttentionBlock(8, 2), torch.randn(1, 6, 8)
    visible = causal(6, x.device)
    changed = x.clone()
    changed[:, 4:] += 1

    before, after = block(x, x, visible), block(changed, changed, visible)

    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_what_is_not_visible_changes_nothing_and_nothing_visible_is_finite() -> None:
    torch.manual_seed(0)
    block, x = AttentionBlock(8, 2), torch.randn(1, 4, 8)
    visible = torch.tensor([[[True, True, False, False]] * 4])
    changed = x.clone()
    changed[:, 2:] = 50

    assert torch.allclose(block(x, x, visible), block(x, changed, visible))
    assert torch.isfinite(block(x, x, torch.zeros_like(visible))).all()


def test_the_padding_row_is_zero_and_stays_zero_in_training() -> None:
    items = ItemEmbedding(5, 4, scale=0.1, dropout=0.0)

    items(torch.tensor([0, 1])).sum().backward()

    assert items.vectors.weight[0].abs().sum() == 0
    assert items.vectors.weight.grad is not None
    assert items.vectors.weight.grad[0].abs().sum() == 0


def leaning(dropout: float = 0.0) -> ItemEmbedding:
    torch.manual_seed(0)
    items = ItemEmbedding(5, 4, scale=0.1, dropout=dropout)
    told_VF = torch.randn(6, 3)
    told_VF[0] = 0
    items.lean_on(told_VF)
    return items


def test_an_item_that_leans_is_its_own_vector_and_a_projection_that_all_share() -> None:
    items, ids = leaning(), torch.tensor([[0, 1], [5, 5]])
    assert items.project is not None

    vectors = items(ids)

    expected = items.vectors(ids) + items.told_VF[ids] @ items.project.weight.T
    assert torch.allclose(vectors, expected)
    assert torch.allclose(items.table[ids], vectors)
    assert vectors[0, 0].abs().sum() == 0


def test_what_was_told_is_not_trained_and_its_projection_is() -> None:
    items = leaning()
    assert items.project is not None

    items(torch.tensor([1, 2])).sum().backward()

    assert items.project.weight.grad is not None
    assert items.project.weight.grad.abs().sum() > 0
    assert not items.told_VF.requires_grad


def test_settled_items_are_the_same_vectors_in_a_plain_table() -> None:
    items, ids = leaning().eval(), torch.arange(6)
    before = items(ids).detach()

    settle(nn.Sequential(items))

    assert torch.allclose(items(ids), before)
    plain = ItemEmbedding(5, 4, scale=0.1, dropout=0.0)
    assert {n: v.shape for n, v in items.state_dict().items()} == {
        n: v.shape for n, v in plain.state_dict().items()
    }


def test_a_popular_item_starts_with_a_larger_bias() -> None:
    items = ItemEmbedding(3, 4, scale=0.1, dropout=0.0)

    items.start_at_popularity(torch.tensor([0.0, 0.6, 0.3, 0.1]))

    assert items.bias[1] > items.bias[2] > items.bias[3]


def test_a_head_fed_with_its_own_slots_is_the_plain_network() -> None:
    torch.manual_seed(0)
    head, x = SlottedMLP((6, 5, 4)), torch.randn(2, 3, 6)
    plain = MLP((6, 5, 4))
    for ours, theirs in zip(head.parameters(), plain.parameters(), strict=True):
        theirs.data.copy_(ours)

    assert torch.allclose(slotted_mlp(x, head.slots), plain(x), atol=1e-6)


def test_each_row_goes_through_its_own_head() -> None:
    torch.manual_seed(0)
    heads = [SlottedMLP((6, 4, 1)) for _ in range(2)]
    x = torch.randn(2, 3, 6)
    both = {name: torch.stack([head.slots[name] for head in heads]) for name in heads[0].slots}

    together = slotted_mlp(x, both)

    for row, head in enumerate(heads):
        assert torch.allclose(together[row], slotted_mlp(x[row], head.slots), atol=1e-6)


def test_written_weights_are_affine_in_the_code() -> None:
    torch.manual_seed(0)
    slots = SlottedMLP((4, 3, 2)).slots
    writer, (one, two) = WeightWriter(slots, 5, 0.1), torch.randn(2, 1, 5)

    middle = writer(0.3 * one + 0.7 * two, slots)

    for name, value in middle.items():
        mixed = 0.3 * writer(one, slots)[name] + 0.7 * writer(two, slots)[name]
        assert torch.allclose(value, mixed, atol=1e-6)


def test_a_zero_code_writes_the_defaults_exactly() -> None:
    slots = SlottedMLP((4, 3, 2)).slots

    written = WeightWriter(slots, 5, 0.1)(torch.zeros(1, 5), slots)

    assert all(torch.equal(written[name][0], value) for name, value in slots.items())


def test_a_code_does_not_depend_on_padding() -> None:
    torch.manual_seed(0)
    encoder, table = CodeEncoder(4, 3), torch.randn(10, 4)
    short, long = torch.tensor([[3, 4]]), torch.tensor([[3, 4, 0, 0]])

    assert torch.allclose(encoder(table[short], short), encoder(table[long], long), atol=1e-6)


SMALL = FeatureSpec(items=9, window=4)


@pytest.mark.parametrize("name", sorted(TRUNKS))
def test_a_trunk_ranks_by_the_order_of_behaviour_only_where_it_should(name: str) -> None:
    torch.manual_seed(0)
    trunk = TRUNKS[name](TrunkConfig(name=name, embedding_scale=0.5), SMALL, 0).eval()
    if isinstance(trunk, DIN):
        nn.init.normal_(trunk.age_bias)
    head = SlottedMLP(trunk.head_sizes).slots
    candidates = torch.tensor([[1, 2, 3]])

    one = trunk(torch.tensor([[4, 5, 6]]), candidates, head)
    other = trunk(torch.tensor([[6, 5, 4]]), candidates, head)

    # A mean knows no order.
    assert torch.allclose(one, other, atol=1e-5) == (name == "pool")


def test_a_candidate_is_scored_alike_whatever_stands_beside_it() -> None:
    torch.manual_seed(0)
    for name, kind in TRUNKS.items():
        trunk = kind(TrunkConfig(name=name), SMALL, 0).eval()
        head, window = SlottedMLP(trunk.head_sizes).slots, torch.tensor([[4, 5, 6, 0]])

        alone = trunk(window, torch.tensor([[2]]), head)
        among = trunk(window, torch.tensor([[7, 2, 9]]), head)

        assert torch.allclose(alone[:, 0], among[:, 1], atol=1e-6)


SEQUENTIAL = [
    TrunkConfig(name="gru4rec", width=8),
    TrunkConfig(name="sasrec", width=8, blocks=2, positions="order"),
]


def sequence_trunk(config: TrunkConfig, fields: FieldSpec | None = None) -> SequenceTrunk:
    torch.manual_seed(0)
    features = FeatureSpec(items=20, window=6, item_fields=fields)
    trunk = TRUNKS[config.name](config, features, 0).eval()
    assert isinstance(trunk, SequenceTrunk)
    if fields is not None:
        trunk.items.know(torch.randint(1, 1 + fields.values, (21, fields.most)))
    return trunk


@pytest.mark.parametrize("config", SEQUENTIAL, ids=lambda config: config.name)
def test_a_later_item_changes_no_earlier_state(config: TrunkConfig) -> None:
    trunk = sequence_trunk(config)

    before, after = (
        trunk.encode_positions(torch.tensor([[3, 4, 5, last, 7, 8]])) for last in (6, 19)
    )

    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.isclose(before[:, 3:], after[:, 3:]).all(-1).any()


@pytest.mark.parametrize("config", SEQUENTIAL, ids=lambda config: config.name)
def test_the_state_at_each_position_is_that_of_the_window_that_ends_there(
    config: TrunkConfig,
) -> None:
    trunk, items = sequence_trunk(config), [3, 4, 5, 6, 7, 8]

    states = trunk.encode_positions(torch.tensor([items]))[0]

    for position, state in enumerate(states):
        prefix = torch.tensor([[*items[: position + 1], *[0] * (5 - position)]])
        assert torch.allclose(state, trunk.encode(prefix)[0], atol=1e-6)


@pytest.mark.parametrize("fields", [None, FieldSpec(values=5, most=2)], ids=["items", "fields"])
@pytest.mark.parametrize("config", SEQUENTIAL, ids=lambda config: config.name)
def test_the_catalogue_is_scored_as_its_items_are(
    config: TrunkConfig, fields: FieldSpec | None
) -> None:
    trunk, window = sequence_trunk(config, fields), torch.tensor([[3, 4, 5, 0], [1, 0, 0, 0]])
    head = SlottedMLP(trunk.head_sizes).slots

    scores = trunk.score_catalogue(trunk.encode(window), head)

    assert torch.allclose(scores, trunk(window, torch.arange(1, 21).expand(2, -1), head), atol=1e-6)


def test_each_group_goes_its_own_way_and_rows_keep_their_order() -> None:
    groups, values = torch.tensor([3, 1, 3, 0]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    seen = []

    def scaled(group: int, rows: torch.Tensor) -> torch.Tensor:
        seen.append((group, rows.tolist()))
        return 10**group * values[rows]

    found = by_group(groups, scaled)

    assert found.tolist() == [1000.0, 20.0, 3000.0, 4.0]
    assert seen == [(0, [3]), (1, [1]), (3, [0, 2])]
