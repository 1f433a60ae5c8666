"""What every method promises, checked for each one that is found."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import shared_models.methods
from shared_models.catalog import method_names
from shared_models.contract.bundle import pack, same, unpack
from shared_models.contract.features import PRIOR, PROFILE, encode_windows
from shared_models.method import (
    Batch,
    Method,
    Personalization,
    Personalizes,
    Remembers,
    Uplinks,
)
from tests.conformance.conftest import ITEMS, MOST, Case, build, pattern_batch, train_steps

SIZE_BUDGET = 1 << 20


def rank_on_device(
    case: Case,
    events: np.ndarray,
    candidates: np.ndarray,
    slots: dict,
    profile: np.ndarray | None = None,
    prior: np.ndarray | None = None,
) -> np.ndarray:
    feeds = {"event_ids": events, "candidate_ids": candidates, **case.bundle.defaults, **slots}
    if case.bundle.manifest.features.profile:
        feeds[PROFILE] = np.zeros((1, MOST), np.int64) if profile is None else profile
    if case.bundle.manifest.features.prior:
        feeds[PRIOR] = np.zeros(candidates.shape, np.float32) if prior is None else prior
    return case.scorer.run(["scores"], feeds)[0]


def own_scores(case: Case, lists: list[list[int]], batch: Batch, prior: np.ndarray) -> np.ndarray:
    """What torch makes of the device's scorer, freshly personalised; a list is the cloud's own."""
    if case.method.config.ranking is None:
        return case.method.score(case.model, batch, age=0).detach().numpy()
    events = encode_windows(lists, case.method.config.features.window)
    features = case.bundle.manifest.features
    read = [batch.profile_BM] if features.profile else []
    read += [torch.from_numpy(prior)] if features.prior else []
    scorer = case.method.export(case.model).scorer
    return scorer(torch.from_numpy(events), batch.candidates_BC, *read).detach().numpy()


def batch_of(windows: list[list[int]], candidates: np.ndarray, history: int) -> Batch:
    histories = np.zeros((len(windows), history), np.int64)
    for row, items in enumerate(windows):
        if items:
            histories[row, -len(items) :] = items
    drawn = pattern_batch()
    known = (drawn.profile_BM, drawn.others_BWL, drawn.groups_B)
    about = (each[: len(windows)] for each in known)
    history_BH, candidates_BC = torch.from_numpy(histories), torch.from_numpy(candidates)
    return Batch(history_BH, candidates_BC, torch.zeros(0), *about)


def personalized(
    case: Case, windows: list[list[int]], length: int | None = None
) -> Personalization:
    """What the cloud makes of uplinks as devices send them, and of what neighbours had sent."""
    uplink = case.bundle.manifest.uplink
    assert uplink is not None
    assert isinstance(case.method, Personalizes)
    items_BN = encode_windows(windows, uplink.items if length is None else length)
    outputs = {}
    if uplink.outputs:
        graph = case.bundle.graph("encoder")
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        values = session.run(list(uplink.outputs), {"event_ids": items_BN})
        outputs = dict(zip(uplink.outputs, values, strict=True))
    if not case.bundle.manifest.neighbours:
        return case.method.personalize(case.model, Uplinks(items_BN, outputs))
    assert isinstance(case.method, Remembers)
    others_BWL = pattern_batch().others_BWL[: len(windows)].numpy()
    vectors_RD = case.method.remember(case.model, others_BWL.reshape(-1, others_BWL.shape[-1]))
    others_BWD = vectors_RD.reshape(*others_BWL.shape[:2], -1)
    known_BW = others_BWL.any(-1)
    return case.method.personalize(case.model, Uplinks(items_BN, outputs, others_BWD, known_BW))


def overlays(case: Case, windows: list[list[int]], length: int | None = None) -> dict:
    """Slot values (B, *shape) of each device, what its group shares included."""
    if not asks(case):
        return of_groups(case, pattern_batch().groups_B[: len(windows)].numpy())
    found = personalized(case, windows, length)
    return {**found.slots, **of_groups(case, found.groups_B)}


def of_groups(case: Case, groups_B: np.ndarray | None) -> dict:
    """What each device's group shares (B, *shape), where the bundle has groups."""
    groups = case.method.export(case.model).groups
    if groups_B is None or not groups:
        return {}
    shared = [groups[group - 1] for group in groups_B.tolist()]
    return {name: np.stack([own[name].detach().numpy() for own in shared]) for name in groups[0]}


def asks(case: Case) -> bool:
    return isinstance(case.method, Personalizes) and case.bundle.manifest.uplink is not None


def windows(rows: int, longest: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, ITEMS + 1, rng.integers(1, longest + 1)).tolist() for _ in range(rows)]


@pytest.mark.parametrize("name", method_names())
def test_the_readme_cites_its_source(name: str) -> None:
    readme = Path(shared_models.methods.__path__[0]) / name / "README.md"

    assert re.search(r"arXiv:\d{4}\.\d{4,5}", readme.read_text())


def test_the_folder_names_the_method(case: Case) -> None:
    assert isinstance(case.method, Method)
    assert case.method.name in method_names()


def test_the_loss_falls(trained_case: Case) -> None:
    method = trained_case.method

    losses, *_ = train_steps(method, build(method, 1), 150, stages=1)

    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_the_same_seed_gives_the_same_weights(trained_case: Case) -> None:
    first, second, other = (trained_case.method.build(seed=seed).state_dict() for seed in (3, 3, 4))

    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_building_a_model_leaves_chance_elsewhere_alone(case: Case) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)

    case.method.build(seed=3)

    assert torch.equal(torch.rand(1), expected)


def test_every_parameter_has_a_gradient_within_three_steps(trained_case: Case) -> None:
    method, model = trained_case.method, build(trained_case.method)
    seen = dict.fromkeys((n for n, p in model.named_parameters() if p.requires_grad), 0.0)
    rng = torch.Generator().manual_seed(0)

    for stage in method.stages():
        optimiser = torch.optim.Adam(list(stage.trainable(model)), lr=1e-3)
        for step in range(3):
            optimiser.zero_grad()
            stage.loss(model, pattern_batch(seed=step), rng).backward()
            optimiser.step()
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    seen[name] += float(parameter.grad.abs().sum())

    # Softmax ignores what is added to all of its inputs alike, so a key's bias has no gradient.
    dead = [name for name, total in seen.items() if total == 0 and not name.endswith("key.bias")]
    assert dead == []


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("known", [0, 1, 10])
@pytest.mark.parametrize("choice", [1, 100])
def test_the_device_scores_what_torch_scores(
    case: Case, rows: int, known: int, choice: int
) -> None:
    rng = np.random.default_rng(rows + known + choice)
    lists = [rng.integers(1, ITEMS + 1, known).tolist() for _ in range(rows)]
    candidates = rng.integers(1, ITEMS + 1, (rows, choice))
    features = case.method.config.features
    batch = batch_of(lists, candidates, case.method.config.history)
    prior = rng.normal(0, 3, candidates.shape).astype(np.float32)
    expected = own_scores(case, lists, batch, prior)

    slots = overlays(case, lists)
    got = np.concatenate(
        [
            rank_on_device(
                case,
                features.encode_window(items),
                candidates[row : row + 1],
                {name: values[row] for name, values in slots.items()},
                batch.profile_BM[row : row + 1].numpy(),
                prior[row : row + 1],
            )
            for row, items in enumerate(lists)
        ]
    )

    assert same(got, expected)


def test_every_slot_is_an_input_and_the_defaults_are_the_plain_model(case: Case) -> None:
    spec = case.bundle.manifest.graphs["scorer"]
    names = {port.name for port in spec.inputs}

    defaults = case.bundle.defaults

    assert {slot.name for slot in case.bundle.manifest.slots} == set(defaults)
    features = case.bundle.manifest.features
    more = [name for name, read in ((PROFILE, features.profile), (PRIOR, features.prior)) if read]
    assert names == {"event_ids", "candidate_ids", *more, *defaults}


def test_padding_changes_nothing(case: Case) -> None:
    items = [3, 8, 9]
    candidates = np.arange(1, 21)[None]

    short = rank_on_device(case, encode_windows([items], 3), candidates, {})
    long = rank_on_device(case, encode_windows([items], 17), candidates, {})

    assert same(short, long)


def test_an_empty_window_scores_finitely(case: Case) -> None:
    candidates = np.arange(1, 21)[None]

    scores = rank_on_device(case, encode_windows([[]], 10), candidates, {})

    assert np.isfinite(scores).all()


def test_the_newest_item_matters(trained_case: Case) -> None:
    candidates = np.arange(1, 21)[None]

    one = rank_on_device(trained_case, encode_windows([[5, 6, 7]], 10), candidates, {})
    other = rank_on_device(trained_case, encode_windows([[5, 6, 30]], 10), candidates, {})

    # Against the scores' own spread: what starts at zero has small scores after a few steps.
    assert np.abs(one - other).max() > 0.01 * one.std()


def test_the_bundle_survives_its_bytes(case: Case) -> None:
    again = unpack(pack(case.bundle), case.bundle.id)

    assert again.manifest == case.bundle.manifest
    assert again.files == case.bundle.files


def test_the_graph_is_plain_and_tells_nothing_of_its_source(case: Case) -> None:
    for name in case.bundle.manifest.graphs:
        graph = onnx.load_from_string(case.bundle.graph(name))

        assert len(graph.graph.node) > 0
        assert {domain.domain for domain in graph.opset_import} <= {"", "ai.onnx"}
        assert {node.op_type for node in graph.graph.node} & {"If", "Loop", "Scan"} == set()
        assert len(graph.functions) == 0
        assert not any(node.metadata_props or node.doc_string for node in graph.graph.node)
        assert b"shared_models" not in case.bundle.graph(name)


def test_every_size_of_the_inputs_is_dynamic(case: Case) -> None:
    for name, spec in case.bundle.manifest.graphs.items():
        ports = {port.name: port.shape for port in spec.inputs}
        for port in onnx.load_from_string(case.bundle.graph(name)).graph.input:
            sizes = [d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim]
            assert [isinstance(size, str) for size in sizes] == [
                isinstance(size, str) for size in ports[port.name]
            ]


def test_the_graph_reads_no_label_and_holds_no_user_table(case: Case) -> None:
    inputs = {port.name for port in case.bundle.manifest.graphs["scorer"].inputs}

    assert not any("label" in name or "user" in name or "loss" in name for name in inputs)
    assert case.bundle.size < SIZE_BUDGET


def test_personalize_writes_declared_slots_only_and_finitely(personal_case: Case) -> None:
    declared = {slot.name: slot.shape for slot in personal_case.bundle.manifest.slots}

    slots = overlays(personal_case, windows(8, 10))

    assert set(slots) <= set(declared)
    assert all(value.shape == (8, *declared[name]) for name, value in slots.items())
    assert all(np.isfinite(value).all() and value.dtype == np.float32 for value in slots.values())


def test_after_training_an_overlay_changes_the_scores(personal_case: Case) -> None:
    candidates = np.arange(1, 21)[None]
    window = encode_windows([[5, 6, 7]], 10)

    slots = {name: value[0] for name, value in overlays(personal_case, [[5, 6, 7]]).items()}

    plain = rank_on_device(personal_case, window, candidates, {})
    assert not np.allclose(
        plain, rank_on_device(personal_case, window, candidates, slots), atol=1e-4
    )


def test_a_user_without_behaviour_gets_the_default_slots(personal_case: Case) -> None:
    slots = personalized(personal_case, [[]]).slots

    for name, value in personal_case.bundle.defaults.items():
        if name in slots and not personal_case.bundle.manifest.neighbours:
            np.testing.assert_array_equal(slots[name][0], value)


def test_an_overlay_does_not_depend_on_who_shares_its_batch(personal_case: Case) -> None:
    torch.set_num_threads(1)
    lists = windows(64, 10)
    alone = overlays(personal_case, lists[:1] * 8)

    for mates in (8, 9, 16, 33, 64):
        together = overlays(personal_case, lists[:mates])
        for name, value in alone.items():
            np.testing.assert_array_equal(together[name][0], value[0])


def test_uplinks_longer_than_behaviour_change_nothing(personal_case: Case) -> None:
    short = overlays(personal_case, [[4, 5]] * 8, 2)
    long = overlays(personal_case, [[4, 5]] * 8, 30)

    for name in short:
        np.testing.assert_allclose(short[name], long[name], atol=1e-6)


def test_a_fresh_list_of_the_cloud_is_what_the_method_scores(ranking_case: Case) -> None:
    method, candidates = ranking_case.method, np.arange(1, 21)[None].repeat(2, axis=0)
    lists: list[list[int]] = [[5, 6, 7], []]
    batch = batch_of(lists, candidates, method.config.history)
    batch = replace(batch, profile_BM=torch.zeros_like(batch.profile_BM))

    scores = method.rank(ranking_case.model, asked(ranking_case, lists), candidates)

    assert same(scores, method.score(ranking_case.model, batch, age=0).detach().numpy())


def test_a_list_of_the_cloud_does_not_depend_on_who_shares_its_batch(ranking_case: Case) -> None:
    torch.set_num_threads(1)
    rank, model = ranking_case.method.rank, ranking_case.model
    lists, candidates = windows(64, 10), np.arange(1, 21)[None].repeat(64, axis=0)
    alone = rank(model, asked(ranking_case, lists[:1] * 8), candidates[:8])

    for mates in (8, 16, 64):
        together = rank(model, asked(ranking_case, lists[:mates]), candidates[:mates])
        np.testing.assert_array_equal(together[0], alone[0])


def asked(case: Case, lists: list[list[int]]) -> np.ndarray:
    """Windows as they go up with an ask to rank."""
    uplink = case.method.config.uplink
    return encode_windows(lists, uplink.items if uplink else 10)


def test_a_fresh_model_without_behaviour_is_its_own_base(case: Case) -> None:
    method = case.method
    model = build(method).eval()
    batch = batch_of([[]], np.arange(1, 21)[None], method.config.history)

    fresh, stale = (method.score(model, batch, age=age) for age in (0, 5))

    assert torch.equal(fresh, stale)
