"""Tests of reward-model fine-tuning and its evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from rrpo.data.shards import Utterance
from rrpo.errors import UserError
from rrpo.evaluate.ser import evaluate
from rrpo.reward.config import FitConfig, LossConfig, RewardConfig, subset_name, subsets
from rrpo.reward.fit import RewardObjective
from rrpo.reward.model import RewardModel, load
from rrpo.reward.posteriors import log_posteriors
from rrpo.reward.regularize import feature_mixup
from rrpo.tokens import length_mask, pad
from rrpo.train import TrainConfig
from rrpo.train import train as loop

CLASSES = ["calm", "angry", "sad"]
SHAPE = RewardConfig(
    width=16, layers=1, heads=2, feedforward=32, dropout=0.0, codes=81, tasks={"emotion": CLASSES}
)
PLAIN = FitConfig(batch_size=8, label_smoothing=0.0, mixup=False, adversarial=False)


def new_model(seed: int = 0) -> RewardModel:
    torch.manual_seed(seed)
    return RewardModel(SHAPE)


def corpus(count: int = 30, seed: int = 0, mixed: bool = False) -> list[Utterance]:
    """Utterances whose class chooses a third of the codes, followed in four tokens of five."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        label = number % 3
        length = int(rng.integers(4, 15))
        own = rng.integers(27 * label, 27 * label + 27, length)
        tokens = np.where(rng.random(length) < 0.8, own, rng.integers(0, 81, length))
        partner = CLASSES[int(rng.integers(3))] if mixed else None
        weight = float(rng.uniform(0.0, 0.5)) if mixed else 0.0
        rows.append(
            Utterance(
                f"{seed}-{number}",
                "",
                CLASSES[label],
                tokens,
                partner_emotion=partner,
                partner_weight=weight,
            )
        )
    return rows


def batch_of(rows: list[Utterance]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([row.tokens.size for row in rows])
    return pad([torch.from_numpy(row.tokens) for row in rows]), length_mask(lengths)


def wanted(rows: list[Utterance], epsilon: float) -> NDArray[np.float64]:
    """Targets by the definition, class by class."""
    targets = np.zeros((len(rows), 3))
    for place, row in enumerate(rows):
        targets[place, CLASSES.index(row.emotion)] += 1 - row.partner_weight
        if row.partner_emotion is not None:
            targets[place, CLASSES.index(row.partner_emotion)] += row.partner_weight
    return (1 - epsilon) * targets + epsilon / 3


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def cross_entropy(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    return float(-(targets * log_softmax(logits)).sum(-1).mean())


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("mixup", [False, True])
@pytest.mark.parametrize("adversarial", [False, True])
def test_loss_is_that_of_the_paper(epsilon: float, mixup: bool, adversarial: bool) -> None:
    """L_ser by hand in numpy; a linear head makes g = (p - y) W / B a closed form."""
    clean, pool = corpus(), corpus(20, seed=1, mixed=True)
    config = FitConfig(
        batch_size=8,
        label_smoothing=epsilon,
        mixup=mixup,
        mixup_at="audio",
        adversarial=adversarial,
        adversarial_at="pooled",
        adversarial_epsilon=0.7,
        adversarial_weight=0.3,
    )
    model = new_model()
    objective = RewardObjective(model, clean, config, pool)
    loss, metrics = objective.loss(0, seeded())

    rows = [[*clean, *pool][row] for row in objective.draw(seeded()).tolist()]
    tokens, mask = batch_of(rows)
    with torch.no_grad():
        pooled = model.pool(model.encode(model.embed(tokens), mask), mask).double().numpy()
    weight, bias = (value.detach().double().numpy() for value in model.head["emotion"].parameters())
    targets = wanted(rows, epsilon)
    logits = pooled @ weight.T + bias
    expected = plain = cross_entropy(logits, targets)
    assert metrics["loss_emotion"] == pytest.approx(plain, abs=1e-5)
    if adversarial:
        gradient = (np.exp(log_softmax(logits)) - targets) @ weight / len(rows)
        delta = 0.7 * gradient / np.linalg.norm(gradient, axis=-1, keepdims=True)
        attacked = cross_entropy((pooled + delta) @ weight.T + bias, targets)
        assert attacked > plain
        expected += 0.3 * attacked
        assert metrics["loss_adversarial"] == pytest.approx(attacked, abs=1e-5)
        ratio = (0.7 / np.linalg.norm(pooled, axis=-1)).mean()
        assert metrics["delta_ratio"] == pytest.approx(ratio, abs=1e-5)
    else:
        assert metrics.keys() == {"loss_emotion", "accuracy", "mixed"}
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    labels = [CLASSES.index(row.emotion) for row in rows]
    assert metrics["accuracy"] == pytest.approx((logits.argmax(-1) == labels).mean())
    assert metrics["mixed"] == pytest.approx(np.mean([row.id.startswith("1-") for row in rows]))
    assert (metrics["mixed"] > 0) == mixup


def perturbed_loss(
    model: RewardModel, rows: list[Utterance], delta: Tensor, frames: bool
) -> tuple[Tensor, Tensor]:
    """L_emo + alpha L_adv with a delta that is given, and the embedding h' it is added to."""
    tokens, mask = batch_of(rows)
    targets = torch.from_numpy(wanted(rows, 0.1)).float()
    hidden = model.encode(model.embed(tokens), mask)
    embedding = hidden if frames else model.pool(hidden, mask)
    losses = []
    for moved in (embedding, embedding + delta):
        logits = model.classify(model.pool(moved, mask) if frames else moved)
        losses.append(-(targets * logits.log_softmax(-1)).sum(-1).mean())
    return losses[0] + 0.5 * losses[1], embedding


@pytest.mark.parametrize("frames", [False, True])
def test_delta_is_the_fast_gradient_and_carries_no_gradient(frames: bool) -> None:
    """The gradient of h' by finite differences gives delta; then delta is held constant."""
    model, rows = new_model(), corpus(6)
    config = FitConfig(batch_size=2, mixup=False, adversarial_at="frames" if frames else "pooled")
    objective = RewardObjective(model, rows, config)
    loss, _ = objective.loss(0, seeded())
    loss.backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}

    model.double().zero_grad()
    chosen = [rows[row] for row in objective.draw(seeded()).tolist()]
    with torch.no_grad():
        half, embedding = perturbed_loss(model, chosen, torch.zeros(1).double(), frames)
        gradient = torch.zeros_like(embedding)
        for place in np.ndindex(*embedding.shape):
            step = torch.zeros_like(embedding)
            step[place] = 1e-5
            gradient[place] = perturbed_loss(model, chosen, step, frames)[0] - half
    norm = gradient.flatten(1).norm(dim=1).view(-1, *[1] * (gradient.ndim - 1))
    delta = 0.5 * gradient / norm
    expected, _ = perturbed_loss(model, chosen, delta, frames)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(found[name].double(), weight.grad, atol=1e-5, rtol=1e-3)


def test_features_are_mixed_within_the_batch_anew_in_every_step() -> None:
    """It needs no pool, and with nothing mixed it is the loss without mixup."""
    model, rows = new_model(), corpus(12)
    plain, hardened, none = (
        RewardObjective(model, rows, FitConfig(batch_size=8, adversarial=False, **settings))
        for settings in ({"mixup": False}, {}, {"mixup_share": 0.0})
    )
    loss, metrics = none.loss(0, seeded())
    wanted_loss, _ = plain.loss(0, seeded())
    assert (loss.item(), metrics["mixed"]) == (wanted_loss.item(), 0.0)
    generator = seeded()
    first, metrics = hardened.loss(0, generator)
    second, _ = hardened.loss(1, generator)
    again, _ = hardened.loss(0, seeded())
    assert metrics["mixed"] == 1.0
    assert first.item() == again.item()
    assert first.item() not in (second.item(), wanted_loss.item())
    # Mixing takes nothing from the stream that clean rows are drawn from.
    left, right = seeded(), seeded()
    for step in range(3):
        hardened.loss(step, left)
        plain.loss(step, right)
        assert torch.equal(hardened.draw(left), plain.draw(right))


def test_the_loss_of_mixed_features_is_that_of_the_paper() -> None:
    """L_emo = mean (1 - lambda) CE(y'_i) + lambda CE(y'_j), with the mixtures made once more."""
    model, rows = new_model(), corpus(12)
    objective = RewardObjective(model, rows, FitConfig(batch_size=8, adversarial=False))
    loss, _ = objective.loss(0, seeded())
    generator = seeded()
    chosen = [rows[row] for row in objective.draw(generator).tolist()]
    rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    tokens, mask = batch_of(chosen)
    mixtures, partners, weights = feature_mixup(
        model.embed(tokens), [row.tokens.size for row in chosen], rng
    )
    logits = model.classify(model.pool(model.encode(mixtures, mask), mask))
    logits = logits.detach().double().numpy()
    targets = wanted(chosen, 0.1)
    others = targets[partners.numpy()]
    losses = [-(one * log_softmax(logits)).sum(-1) for one in (targets, others)]
    share = weights.detach().double().numpy()
    assert 0 < share.max() < 0.5
    expected = ((1 - share) * losses[0] + share * losses[1]).mean()
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_a_model_keeps_the_loss_it_was_fine_tuned_with(tmp_path: Path) -> None:
    model = new_model()
    assert model.config.loss == LossConfig()
    config = FitConfig(adversarial_epsilon=0.7, adversarial_at="pooled", mixup=False)
    objective = RewardObjective(model, corpus(), config)
    objective.save(tmp_path)
    assert load(tmp_path).config.loss == LossConfig(
        label_smoothing=0.1,
        adversarial_weight=0.5,
        adversarial_epsilon=0.7,
        adversarial_at="pooled",
    )
    RewardObjective(model, corpus(), PLAIN)
    assert model.config.loss.adversarial_weight == model.config.loss.label_smoothing == 0.0
    path = tmp_path / "model.json"
    path.write_text(path.read_text().replace('"loss"', '"los"'))
    with pytest.raises(UserError, match=r"lacks the key `loss`.*train it again"):
        load(tmp_path)


@pytest.mark.parametrize("where", ["pooled", "frames"])
def test_heads_alone_can_be_tuned(where: str) -> None:
    model = new_model().train()
    config = FitConfig.model_validate({"mixup": False, "tune": "heads", "adversarial_at": where})
    loss, metrics = RewardObjective(model, corpus(), config).loss(0, seeded())
    loss.backward()
    trained = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert trained == {
        f"{part}.emotion{suffix}"
        for part, suffix in (
            ("pooling", ".score.weight"),
            ("pooling", ".score.bias"),
            ("head", ".weight"),
            ("head", ".bias"),
        )
    }
    assert metrics["delta_ratio"] > 0


def test_batches_depend_on_the_generator_alone() -> None:
    clean, pool = corpus(), corpus(20, seed=1, mixed=True)
    model = new_model()
    hardened = RewardObjective(model, clean, FitConfig(batch_size=8, mixup_at="audio"), pool)
    plain = RewardObjective(model, clean, PLAIN)
    first, again, other = (hardened.draw(seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    unmixed = first < len(clean)
    assert torch.equal(first[unmixed], plain.draw(seeded(1))[unmixed])
    one, two = seeded(3), seeded(3)
    for _ in range(3):
        assert hardened.loss(0, one)[0].item() == hardened.loss(9, two)[0].item()
        plain.draw(seeded())
    left, right = seeded(3), seeded(3)
    hardened.draw(left)
    plain.draw(right)
    assert torch.equal(left.get_state(), right.get_state())


def test_every_row_is_drawn_evenly_and_the_pool_by_its_share() -> None:
    clean, pool = corpus(6), corpus(9, seed=1, mixed=True)
    config = FitConfig(batch_size=20_000, mixup_share=0.3, mixup_at="audio")
    rows = RewardObjective(new_model(), clean, config, pool).draw(seeded())
    counts = torch.bincount(rows, minlength=15).numpy()
    expected = np.array([14_000 / 6] * 6 + [6_000 / 9] * 9)
    assert ((counts - expected) ** 2 / expected).sum() < 36.1  # chi-squared, 14 degrees, p = .001


def train(config: FitConfig, seed: int, steps: int = 60) -> RewardModel:
    model = new_model(seed).train()
    objective = RewardObjective(model, corpus(90), config, corpus(60, seed=1, mixed=True))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    generator = seeded(seed)
    for step in range(steps):
        optimizer.zero_grad()
        objective.loss(step, generator)[0].backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("config", [PLAIN, FitConfig(batch_size=8)], ids=["plain", "hardened"])
def test_a_toy_task_is_learned(config: FitConfig) -> None:
    held_out = corpus(120, seed=5)
    before = evaluate(new_model(), held_out)
    after = evaluate(train(config, seed=0), held_out)
    assert before["accuracy"].mean < 0.7
    assert after["accuracy"].mean > 0.9
    assert after["mean_log_posterior"].mean > before["mean_log_posterior"].mean


def test_training_repeats_under_a_seed() -> None:
    config = FitConfig(batch_size=8)
    one, two, other = (train(config, seed, steps=4) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.table, other.table)


def loss_of(model: RewardModel, rows: list[Utterance]) -> float:
    """The cross-entropy of a model on utterances."""
    return -float(evaluate(model, rows, resamples=1)["mean_log_posterior"].mean)


def test_the_training_loop_trains_it(tmp_path: Path) -> None:
    rows = corpus(90)
    objective = RewardObjective(
        new_model(), rows, FitConfig(batch_size=8), corpus(60, seed=1, mixed=True)
    )
    settings = TrainConfig(steps=30, learning_rate=5e-3, save_every=1000)
    loop(
        objective,
        settings,
        tmp_path,
        validate=lambda _: {"loss": loss_of(objective.model, rows)},
    )
    loaded = load(tmp_path)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [record["validation"]["loss"] for record in records if "validation" in record]
    assert losses[-1] < losses[0] - 0.2
    assert any("delta_ratio" in record for record in records)
    assert loss_of(loaded, rows) == pytest.approx(losses[-1], abs=1e-4)


def test_log_posteriors_keep_order_and_mode() -> None:
    torch.manual_seed(0)
    model = RewardModel(SHAPE.model_copy(update={"dropout": 0.5})).train()
    tokens = [torch.from_numpy(row.tokens) for row in corpus(11)]
    found = log_posteriors(model, tokens, batch_size=4)
    assert model.training
    model.eval()
    for row, ids in zip(found, tokens, strict=True):
        alone = model.log_posterior(model.embed(ids[None]), torch.ones(1, len(ids)).bool())
        torch.testing.assert_close(row, alone[0].detach(), atol=1e-5, rtol=1e-5)
    log_posteriors(model, tokens)
    assert not model.training
    assert log_posteriors(model, []).shape == (0, 3)


def changed(**fields: object) -> list[Utterance]:
    values = {"id": "odd", "text": "", "emotion": "calm", "tokens": np.array([1]), **fields}
    return [*corpus(6), Utterance(**values)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no utterances"),
        (changed(emotion="bored"), "'odd': unknown emotion 'bored': choose one of calm"),
        (changed(tokens=np.array([81])), r"'odd' has a token outside 0…80"),
        (changed(tokens=np.array([-1])), r"'odd' has a token outside"),
        (changed(tokens=np.array([], dtype=np.int64)), "'odd' has no tokens"),
        ([row for row in corpus() if row.emotion == "sad"], "every utterance is 'sad'"),
    ],
)
def test_bad_data_is_refused_before_training(rows: list[Utterance], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RewardObjective(new_model(), rows, PLAIN)


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ([], "mixup_at=audio needs a mix pool"),
        (changed(partner_emotion="bored", partner_weight=0.1), "unknown emotion 'bored'"),
        (changed(partner_emotion=None, partner_weight=0.1), "'odd' has partner None"),
        (changed(partner_emotion="sad", partner_weight=1.5), "with weight 1.5"),
        (changed(partner_emotion="sad", partner_weight=float("nan")), "with weight nan"),
    ],
)
def test_bad_mix_pool_is_refused_before_training(pool: list[Utterance], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RewardObjective(new_model(), corpus(), FitConfig(mixup_at="audio"), pool)


def test_emotion_without_an_example_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="no example of sad"):
        RewardObjective(new_model(), [row for row in corpus() if row.emotion != "sad"], PLAIN)


@pytest.mark.parametrize(
    "change",
    [
        {"label_smothing": 0.1},
        {"label_smoothing": 1.0},
        {"mixup_share": 1.5},
        {"adversarial_epsilon": 0.0},
        {"adversarial_at": "waveform"},
        {"tune": "table"},
        {"mixup_at": "features", "nuisance": True},
    ],
)
def test_configuration_is_strict(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FitConfig.model_validate(change)


def test_defaults_are_the_papers() -> None:
    config = FitConfig()
    assert (config.label_smoothing, config.mixup, config.adversarial) == (0.1, True, True)
    assert (config.adversarial_epsilon, config.adversarial_weight) == (0.5, 0.5)
    assert (config.mixup_at, config.adversarial_at) == ("features", "frames")
    assert (config.mixup_share, config.tune) == (1.0, "all")


def test_a_name_of_an_earlier_version_names_the_new_one() -> None:
    with pytest.raises(ValidationError, match=r"mixup_at=embedding is no more.*features"):
        FitConfig.model_validate({"mixup_at": "embedding"})


def test_the_subsets_are_eight_in_a_fixed_order_and_name_themselves() -> None:
    found = subsets()
    names = ["plain", "ls", "eam", "adv", "ls_eam", "ls_adv", "eam_adv", "ls_eam_adv"]
    assert list(found) == names
    assert len({config.model_dump_json() for config in found.values()}) == 8
    assert [subset_name(config) for config in found.values()] == names
    assert found["ls_eam_adv"] == FitConfig()
    assert found["plain"] == FitConfig(label_smoothing=0.0, mixup=False, adversarial=False)
    assert (found["eam"].label_smoothing, found["eam"].mixup) == (0.0, True)
    assert subset_name(FitConfig(label_smoothing=0.2, mixup_share=0.0, adversarial_weight=0.0)) == (
        "ls"
    )
