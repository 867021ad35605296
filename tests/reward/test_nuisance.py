import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from rrpo.data.shards import Utterance
from rrpo.reward import RewardConfig, RewardModel
from rrpo.reward.config import FitConfig
from rrpo.reward.fit import RewardObjective
from rrpo.reward.nuisance import RIDGE, NuisanceModel, nuisances
from rrpo.reward.posteriors import log_posteriors

PLAIN = {"label_smoothing": 0.0, "mixup": False, "adversarial": False}


def test_the_bias_model_is_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(80, 2)), rng.integers(3, size=80)
    values[labels == 1] += 1.0
    bias = NuisanceModel(values, np.eye(3)[labels])
    scaled = (values - values.mean(0)) / (values.std(0) + 1e-6)
    inputs = np.concatenate([np.ones((80, 1)), scaled, scaled**2], axis=1)
    # Scikit-learn adds half the squared weights to the sum of losses times C.
    other = LogisticRegression(C=1 / (2 * RIDGE * 80), fit_intercept=False, tol=1e-8, max_iter=5000)
    expected = other.fit(inputs, labels).predict_log_proba(inputs)
    assert np.allclose(bias.log_posterior(values), expected, atol=2e-3)


def test_energy_counts_where_all_rows_have_it() -> None:
    rows = [Utterance(str(n), "", "sad", np.ones(n, dtype=np.int64), energy=-n) for n in (3, 5)]
    assert np.allclose(nuisances(rows), [[np.log(3), -3], [np.log(5), -5]])
    silent = Utterance("x", "", "sad", np.ones(2, dtype=np.int64))
    assert nuisances([*rows, silent]).shape == (3, 1)


def spoken(rng: np.random.Generator, count: int, agree: float) -> list[Utterance]:
    """Sad is said with codes 0 to 3 a little more often, and is longer in a share of cases."""
    rows = []
    for number in range(count):
        sad = number % 2 == 0
        long = sad == (rng.random() < agree)
        size = int(rng.integers(14, 20) if long else rng.integers(5, 9))
        tokens = np.where(rng.random(size) < 0.7, rng.integers(4, size=size) + (0 if sad else 4), 8)
        rows.append(Utterance(str(number), "", "sad" if sad else "angry", tokens))
    return rows


def trained(rows: list[Utterance], nuisance: bool) -> RewardModel:
    torch.manual_seed(0)
    config = RewardConfig(
        width=16, layers=1, heads=2, feedforward=32, dropout=0.0, codes=9,
        tasks={"emotion": ["sad", "angry"]},
    )  # fmt: skip
    model = RewardModel(config)
    objective = RewardObjective(model, rows, FitConfig(nuisance=nuisance, **PLAIN))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(60):
        optimizer.zero_grad()
        objective.loss(step, generator)[0].backward()
        optimizer.step()
    return model.eval()


@pytest.mark.slow
def test_a_model_that_need_not_explain_length_leans_on_it_less() -> None:
    """The same words at two lengths: how far does length alone move the verdict?"""
    rng = np.random.default_rng(1)
    rows = spoken(rng, 200, agree=0.97)
    words = [torch.tensor(codes) for codes in ([0, 4, 8], [5, 1, 8], [2, 8, 6], [8, 7, 3])]
    short, long = ([one.repeat(times) for one in words] for times in (2, 6))
    moved = {}
    for nuisance in (False, True):
        model = trained(rows, nuisance)
        sad = log_posteriors(model, [*short, *long])
        odds = sad[:, 0] - sad[:, 1]
        moved[nuisance] = abs(float(odds[4:].mean() - odds[:4].mean()))
        test = spoken(rng, 100, agree=0.03)  # length now says the contrary
        found = log_posteriors(model, [torch.from_numpy(row.tokens) for row in test]).argmax(-1)
        labels = torch.tensor([row.emotion == "angry" for row in test]).long()
        moved[f"right {nuisance}"] = float((found == labels).float().mean())
    assert moved[True] < 0.8 * moved[False]
    assert moved["right True"] >= moved["right False"]


def test_the_loss_adds_the_bias_and_use_does_not() -> None:
    rows = spoken(np.random.default_rng(2), 40, agree=0.9)
    torch.manual_seed(0)
    config = RewardConfig(
        width=16, layers=1, heads=2, feedforward=32, dropout=0.0, codes=9,
        tasks={"emotion": ["sad", "angry"]},
    )  # fmt: skip
    model = RewardModel(config).eval()
    fit = FitConfig(nuisance=True, batch_size=40, **PLAIN)
    objective = RewardObjective(model, rows, fit)
    chosen = objective.draw(torch.Generator().manual_seed(3))
    loss, _ = objective.loss(1, torch.Generator().manual_seed(3))
    values = nuisances(rows)
    labels = np.array([row.emotion == "angry" for row in rows]).astype(int)
    bias = NuisanceModel(values, np.eye(2)[labels]).log_posterior(values)
    logits = log_posteriors(model, [torch.from_numpy(rows[i].tokens) for i in chosen.tolist()])
    expected = torch.nn.functional.cross_entropy(
        logits + bias[chosen], torch.from_numpy(labels)[chosen]
    )
    assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-5)
