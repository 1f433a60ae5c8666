"""cigar's own contract."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from device_client.scorer import Scorer
from protos.v1.collaboration_pb2 import Answer, Ask
from shared_models.catalog import load_method, resolve
from shared_models.contract.bundle import Bundle, same
from shared_models.contract.features import FieldSpec, LogFields, encode_windows
from shared_models.contract.overlay import Overlay, overlay_to_proto
from shared_models.contract.tensors import Codec, Float32Array
from shared_models.contract.uplink import Uplink, refresh_to_proto
from shared_models.export import compile_bundle
from shared_models.method import Batch, Facts, Personalization, Uplinks
from shared_models.methods.cigar.config import SHARED
from shared_models.methods.cigar.method import Cigar, likeness
from shared_models.methods.cigar.network import NEIGHBOURS, CigarNetwork, Prototypes

# Shapes: B rows, L events that are pooled, C candidates, W neighbours, M value ids, K prototypes,
# D width.

ITEMS, VALUES, MOST, WINDOW, GROUPS, WIDTH = 40, 6, 2, 5, 5, 32
FIELDS = LogFields(FieldSpec(values=VALUES, most=MOST), FieldSpec(values=VALUES, most=MOST))
CANDIDATES = np.arange(1, 11)
TRUNKS = ("sasrec", "gru4rec", "din", "pool")
EXPORTED = ("gru4rec", "pool")
"""One trunk of each kind: exports take long, and conformance makes them over all trunks."""


def make(trunk: str = "pool", fields: LogFields | None = FIELDS, **settings: object) -> Cigar:
    own = {"window": WINDOW, "groups": GROUPS, "shared": 20, **settings}
    sections = {"cigar": own, "trunk": {"embedding_scale": 0.5}}
    cigar = load_method("cigar", resolve("cigar", ITEMS, trunk, sections, fields))
    assert isinstance(cigar, Cigar)
    return cigar


def built(cigar: Cigar, seed: int = 0) -> CigarNetwork:
    rng = torch.Generator().manual_seed(1)
    values_VM = torch.randint(0, VALUES + 1, (ITEMS + 1, MOST), generator=rng)
    facts = Facts(torch.full((ITEMS + 1,), 1 / ITEMS), values_VM)
    network = cigar.build(seed, facts).eval()
    assert isinstance(network, CigarNetwork)
    return network


def batch(rows: int = 16, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    history_BH = torch.randint(1, ITEMS + 1, (rows, 20), generator=rng)
    history_BH[:: rows // 4, :17] = 0
    others_BWL = torch.randint(1, ITEMS + 1, (rows, 3, 8), generator=rng)
    others_BWL[:, 1, :5] = 0
    others_BWL[::3, 2] = 0
    return Batch(
        history_BH,
        torch.randint(1, ITEMS + 1, (rows, 4), generator=rng),
        torch.randint(0, 2, (rows, 4), generator=rng).float(),
        torch.randint(0, VALUES + 1, (rows, MOST), generator=rng),
        others_BWL,
    )


@cache
def compiled(trunk: str) -> tuple[Cigar, CigarNetwork, Bundle]:
    cigar = make(trunk)
    network = built(cigar)
    return cigar, network, compile_bundle(cigar, network, "log")


def prototypes_of(network: CigarNetwork) -> Prototypes:
    assert network.prototypes is not None
    return network.prototypes


def vectors(*shape: int, seed: int = 0) -> Float32Array:
    return np.random.default_rng(seed).standard_normal((*shape, WIDTH)).astype(np.float32)


def personalized(
    cigar: Cigar,
    network: CigarNetwork,
    shared_BD: Float32Array,
    others_BWD: Float32Array | None = None,
) -> Personalization:
    rows = len(shared_BD)
    others = vectors(rows, 3) if others_BWD is None else others_BWD
    known_BW = np.ones(others.shape[:2], bool)
    nothing = np.zeros((rows, 20), np.int64)
    return cigar.personalize(network, Uplinks(nothing, {SHARED: shared_BD}, others, known_BW))


@pytest.mark.parametrize("trunk", EXPORTED)
def test_a_device_of_every_group_scores_as_the_cloud(trunk: str) -> None:
    cigar, network, bundle = compiled(trunk)
    scorer, groups = Scorer(bundle), cigar.export(network).groups
    found = personalized(cigar, network, prototypes_of(network).vectors.detach().numpy())
    window, profile = [7, 3, 9], [2, 5]
    assert found.groups_B is not None

    for row, group in enumerate(found.groups_B.tolist()):
        head = {name: value.detach().numpy() for name, value in groups[group - 1].items()}
        heard_D = found.slots[NEIGHBOURS][row]
        scores = scorer.score(
            scorer.manifest.features.encode_window(window),
            CANDIDATES,
            Overlay("", 3, {NEIGHBOURS: heard_D, **head}),
            profile,
        )

        read = network.read(
            torch.from_numpy(encode_windows([window], WINDOW)),
            torch.from_numpy(CANDIDATES)[None],
            torch.tensor([profile]),
            torch.from_numpy(heard_D)[None],
        )
        expected = network.through_groups(read, torch.tensor([group - 1]))
        assert same(scores, expected.detach().numpy()[0])
    assert found.groups_B.tolist() == [1, 2, 3, 4, 5]


KEPT = {"gru4rec": [0, 1], "pool": [0, 1, 2, 4, 5]}
"""Blocks of what a head reads that have nothing to do with neighbours."""


def slice_of(weight: Tensor, kept: list[int]) -> Tensor:
    """The kept blocks of a head's first layer (O, N), or of what modulates it (O N, ...)."""
    blocks = [weight[:, block * WIDTH : (block + 1) * WIDTH] for block in kept]
    return torch.cat(blocks, 1)


def without_exchange(network: CigarNetwork, plain: CigarNetwork, kept: list[int]) -> None:
    """Zero what ``network`` reads of neighbours; copy the rest to ``plain``."""
    first = network.ranker.head.layers[0]
    outputs, inputs = first.weight.shape
    with torch.no_grad():
        for block in set(range(inputs // WIDTH)) - set(kept):
            first.weight[:, block * WIDTH : (block + 1) * WIDTH] = 0
        state = {n: v for n, v in network.state_dict().items() if n in plain.state_dict()}
        state["ranker.head.layers.0.weight"] = slice_of(first.weight, kept)
        for part in ("weight", "bias"):
            name = f"modulator.layers.head_0_weight.{part}"
            if name in state:
                by_weight = state[name].reshape(outputs, inputs, -1)
                state[name] = slice_of(by_weight, kept).reshape(-1, *state[name].shape[1:])
    plain.load_state_dict(state)


@pytest.mark.parametrize("trunk", ["gru4rec", "pool"])
@pytest.mark.parametrize("prototypes", [True, False])
def test_without_the_weights_of_neighbours_it_is_its_ablation(
    trunk: str, *, prototypes: bool
) -> None:
    full, ablation = (make(trunk, prototypes=prototypes, exchange=each) for each in (True, False))
    network, plain, rows = built(full), built(ablation, seed=7), batch()
    heard_otherwise = not torch.allclose(full.score(network, rows), ablation.score(plain, rows))

    without_exchange(network, plain, KEPT[trunk])

    scores_BC = ablation.score(plain, rows)
    silent = Batch(rows.history_BH, rows.candidates_BC, rows.labels_BC, rows.profile_BM)
    assert heard_otherwise
    torch.testing.assert_close(full.score(network, rows), scores_BC, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(full.score(network, silent), scores_BC, atol=1e-5, rtol=1e-5)


def test_a_modulator_that_scales_by_one_leaves_the_plain_head() -> None:
    cigar = make()
    network, rows = built(cigar), batch()
    assert network.modulator is not None
    read = cigar._read(network, rows)
    plain_BC = network.ranker.trunk.through_head(read, network.ranker.head.slots)
    group_B = torch.zeros(len(plain_BC), dtype=torch.int64)
    modulated_BC = network.through_groups(read, group_B)

    with torch.no_grad():
        for parameter in network.modulator.parameters():
            parameter.zero_()

    assert not torch.allclose(modulated_BC, plain_BC)
    assert torch.equal(network.through_groups(read, group_B), plain_BC)
    for name, value in network.heads().items():
        assert torch.equal(value, network.ranker.head.slots[name].expand_as(value))


@pytest.mark.parametrize("scale", [1e-3, 0.5, 7.0, 1e3])
def test_the_length_of_a_vector_does_not_change_its_group(scale: float) -> None:
    cigar = make()
    network, shared_BD = built(cigar), vectors(200)

    plain, scaled = (personalized(cigar, network, c * shared_BD).groups_B for c in (1, scale))

    assert plain is not None
    assert set(plain.tolist()) == {1, 2, 3, 4, 5}
    assert np.array_equal(plain, scaled)


def test_serving_draws_nothing() -> None:
    cigar = make()
    network, rows = built(cigar), batch()

    scores = {cigar.score(network, rows).detach().numpy().tobytes() for _ in range(5)}
    groups = {personalized(cigar, network, vectors(64)).groups_B.tobytes() for _ in range(5)}

    assert len(scores) == len(groups) == 1


def loss_gradients(cigar: Cigar, network: CigarNetwork, rows: Batch) -> dict[str, Tensor]:
    """Gradients of one training step; what is drawn is the same each time."""
    network.zero_grad(set_to_none=True)
    cigar.stages()[0].loss(network, rows, torch.Generator().manual_seed(0)).backward()
    return {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


PROTOTYPES = "prototypes.vectors"


def test_labels_teach_the_prototypes_nothing_and_all_else_something() -> None:
    cigar = make()
    network, rows = built(cigar), batch()
    flipped = Batch(
        rows.history_BH, rows.candidates_BC, 1 - rows.labels_BC, rows.profile_BM, rows.others_BWL
    )

    as_labelled, as_flipped = (loss_gradients(cigar, network, each) for each in (rows, flipped))

    # A bias that is still zero has no gradient to its scale.
    taught = {name for name, gradient in as_labelled.items() if gradient.abs().sum() > 0}
    unmoved = {name for name in taught if torch.equal(as_labelled[name], as_flipped[name])}
    assert unmoved == {PROTOTYPES}


def test_a_group_s_head_gives_its_prototype_no_gradient() -> None:
    cigar = make()
    network, rows = built(cigar), batch()
    group_B = torch.arange(len(rows.history_BH)) % GROUPS

    network.through_groups(cigar._read(network, rows), group_B).sum().backward()

    assert prototypes_of(network).vectors.grad is None
    assert network.modulator is not None
    assert all(parameter.grad is not None for parameter in network.modulator.parameters())


def test_what_sorts_users_teaches_the_prototypes_alone() -> None:
    cigar = make()
    network, rows = built(cigar), batch()
    prototypes = prototypes_of(network)

    own_BD = cigar._own(network, rows)
    sorting = prototypes.similarities(own_BD).max(1).values.sum() + likeness(prototypes.directions)
    sorting.backward()

    taught = {name for name, p in network.named_parameters() if p.grad is not None}
    assert taught == {PROTOTYPES}


def test_neighbours_teach_how_they_are_heard_and_are_not_taught() -> None:
    cigar = make(fields=None)
    network, rows = built(make(fields=None)), batch()

    heard_BD = cigar._heard(network, rows)
    assert heard_BD is not None
    heard_BD.square().sum().backward()

    taught = {name for name, p in network.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in taught} == {"exchange"}
    assert not network.pooled(rows.others_BWL).requires_grad


def test_the_order_of_neighbours_does_not_matter() -> None:
    cigar = make()
    network, others_BWD = built(cigar), vectors(8, 6)

    forth, back = (
        personalized(cigar, network, vectors(8), each).slots[NEIGHBOURS]
        for each in (others_BWD, others_BWD[:, ::-1].copy())
    )

    np.testing.assert_allclose(forth, back, atol=1e-6)


def test_who_is_not_known_is_not_heard() -> None:
    network, others_BWD = built(make()), torch.from_numpy(vectors(8, 6))
    assert network.exchange is not None
    known_BW = torch.arange(6).expand(8, -1) < 4

    heard, other, fewer = (
        network.exchange(each_BWD, known)
        for each_BWD, known in (
            (others_BWD, known_BW),
            (torch.where(known_BW[..., None], others_BWD, 99.0), known_BW),
            (others_BWD[:, :4], known_BW[:, :4]),
        )
    )

    assert torch.equal(heard, other)
    torch.testing.assert_close(heard, fewer, atol=1e-6, rtol=0)


def test_a_user_without_neighbours_hears_zeros_and_is_scored_finitely() -> None:
    cigar = make()
    network, rows = built(cigar), batch()
    assert network.exchange is not None

    heard_BD = network.exchange(torch.zeros(3, 4, WIDTH), torch.zeros(3, 4, dtype=torch.bool))
    alone = Batch(
        rows.history_BH, rows.candidates_BC, rows.labels_BC, rows.profile_BM, 0 * rows.others_BWL
    )

    assert (heard_BD == 0).all()
    assert torch.isfinite(cigar.score(network, alone)).all()


def test_a_shared_vector_forgets_the_order_of_clicks_and_the_padding() -> None:
    network = built(make())
    items = [3, 9, 4, 17, 30]

    plain, back, padded = (
        network.shared(torch.from_numpy(encode_windows([each], length)))
        for each, length in ((items, 5), (items[::-1], 5), (items, 20))
    )

    torch.testing.assert_close(plain, back, atol=1e-6, rtol=0)
    torch.testing.assert_close(plain, padded, atol=1e-6, rtol=0)


def test_training_pools_what_devices_share() -> None:
    cigar = make()
    network, histories = built(cigar), encode_windows([[3, 9, 4], [7], []], 20)

    pooled_BD = network.pooled(torch.from_numpy(histories))

    np.testing.assert_allclose(pooled_BD.numpy(), cigar.remember(network, histories), atol=1e-6)


def test_another_row_of_a_batch_does_not_matter() -> None:
    cigar = make()
    network, shared_BD, others_BWD = built(cigar), vectors(16), vectors(16, 3)
    found = personalized(cigar, network, shared_BD, others_BWD)
    shared_BD[1:], others_BWD[1:] = vectors(15, seed=5), vectors(15, 3, seed=6)

    other = personalized(cigar, network, shared_BD, others_BWD)

    assert found.groups_B is not None
    assert other.groups_B is not None
    assert found.groups_B[0] == other.groups_B[0]
    assert np.array_equal(found.slots[NEIGHBOURS][0], other.slots[NEIGHBOURS][0])
    assert not np.array_equal(found.slots[NEIGHBOURS][1], other.slots[NEIGHBOURS][1])


@pytest.mark.parametrize("trunk", TRUNKS)
def test_the_heads_that_devices_get_are_those_that_the_modulator_makes(trunk: str) -> None:
    cigar = make(trunk)
    network, rows = built(cigar), batch()
    read, exported = cigar._read(network, rows), cigar.export(network)

    for group, head in enumerate(exported.groups):
        group_B = torch.full((len(rows.history_BH),), group)
        materialised_BC = network.ranker.trunk.through_head(read, head)
        modulated_BC = network.through_groups(read, group_B)
        torch.testing.assert_close(materialised_BC, modulated_BC, atol=1e-5, rtol=1e-5)
    assert len(exported.groups) == GROUPS
    assert all(set(head) == set(network.ranker.head.slots) for head in exported.groups)


def cosine_of_pairs(prototypes: Prototypes) -> float:
    count = len(prototypes.vectors)
    return likeness(prototypes.directions).item() / (count * (count - 1))


def test_prototypes_drift_apart_where_likeness_alone_counts() -> None:
    torch.manual_seed(0)
    prototypes = Prototypes(GROUPS, 8, 0.1)
    optimiser = torch.optim.SGD(prototypes.parameters(), lr=0.1)
    cosines = [cosine_of_pairs(prototypes)]

    for _ in range(50):
        optimiser.zero_grad()
        likeness(prototypes.directions).backward()
        optimiser.step()
        cosines.append(cosine_of_pairs(prototypes))

    assert all(np.diff(cosines[:20]) < 0)
    assert cosines[-1] < cosines[0] - 0.1


@pytest.mark.parametrize("trunk", EXPORTED)
def test_an_empty_history_is_scored_finitely_and_has_a_group(trunk: str) -> None:
    cigar, network, bundle = compiled(trunk)
    scorer = Scorer(bundle)

    shared_D = scorer.encode([])[SHARED]
    found = personalized(cigar, network, shared_D[None].repeat(8, 0))
    window = scorer.manifest.features.encode_window([])
    scores = scorer.score(window, CANDIDATES, None, [])

    assert (shared_D == 0).all()
    assert found.groups_B is not None
    assert set(found.groups_B.tolist()) == {1}
    assert all(np.isfinite(value).all() for value in found.slots.values())
    assert np.isfinite(scores).all()
    rows = batch()
    empty = Batch(
        0 * rows.history_BH, rows.candidates_BC, rows.labels_BC, rows.profile_BM, rows.others_BWL
    )
    assert torch.isfinite(cigar.score(network, empty)).all()
    gradients = loss_gradients(cigar, network, empty)
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


def ask_of(scorer: Scorer, items: list[int]) -> Ask:
    """What a device sends for a history, as the cloud reads it."""
    refresh = refresh_to_proto(Uplink(outputs=scorer.encode(items)), events_seen=len(items))
    ask = Ask(seq=1_000_000, at=1e9, round=1000, refresh=refresh)
    return Ask.FromString(ask.SerializeToString())


def test_a_refresh_holds_a_vector_and_a_header_and_nothing_else() -> None:
    scorer = Scorer(compiled("pool")[2])

    ask = ask_of(scorer, [3, 9, 4])

    assert {field.name for field, _ in ask.ListFields()} == {"seq", "at", "round", "refresh"}
    assert [field.name for field, _ in ask.refresh.ListFields()] == ["outputs"]
    assert [(tensor.name, *tensor.shape) for tensor in ask.refresh.outputs] == [(SHARED, WIDTH)]
    assert (list(ask.refresh.items), ask.refresh.events_seen) == ([], 0)


@pytest.mark.parametrize(("one", "other"), [([3, 9], [9, 3]), ([3], [3, 3]), ([3, 9], [3, 9] * 4)])
def test_histories_of_one_vector_give_asks_that_are_equal_to_the_byte(
    one: list[int], other: list[int]
) -> None:
    scorer = Scorer(compiled("pool")[2])

    asks = [ask_of(scorer, items).SerializeToString() for items in (one, other, [4])]

    assert asks[0] == asks[1] != asks[2]


def test_a_refresh_costs_at_most_200_bytes_each_way_whatever_the_history() -> None:
    cigar, network, bundle = compiled("pool")
    scorer = Scorer(bundle)

    def sizes(length: int) -> tuple[int, int]:
        items = [item % ITEMS + 1 for item in range(length)]
        found = personalized(cigar, network, scorer.encode(items)[SHARED][None])
        assert found.groups_B is not None
        values = {name: value[0] for name, value in found.slots.items()}
        overlay = Overlay("", length, values, int(found.groups_B[0]))
        answer = Answer(seq=1_000_000, overlay=overlay_to_proto(overlay, Codec.F16))
        return ask_of(scorer, items).ByteSize(), answer.ByteSize()

    found = {sizes(length) for length in (1, 7, 20, 1000)}

    assert len(found) == 1
    assert max(found.pop()) <= 200


def test_its_bundle_gives_no_right_to_upload() -> None:
    manifest = compiled("pool")[2].manifest

    assert not manifest.uploads
    assert manifest.uplink is not None
    assert (manifest.uplink.outputs, manifest.uplink.pending) == ((SHARED,), False)
    assert manifest.cross_user
