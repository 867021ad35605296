"""What is planted and how it is counted; what reward models and policies are measured by."""

from collections import Counter

import numpy as np
import pytest
import torch

from rrpo.mini.world import World
from rrpo_studies.planted import trainings
from rrpo_studies.planted.artifacts import (
    ARTIFACTS,
    chosen_rows,
    evened,
    mislabelled,
    plant,
    shares,
    with_artifact,
    without_artifact,
)
from rrpo_studies.planted.looks import in_pairs, look
from rrpo_studies.planted.plan import EMOTION
from rrpo_studies.planted.trainings import reward_figures


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.95, 1.0])
def test_shares_have_the_correlation_and_the_same_number_of_artifacts(rho: float) -> None:
    size, of_emotion = 6000, 1000
    inside, outside = shares(rho, of_emotion / size)
    emotion = np.arange(size) < of_emotion
    artifact = np.zeros(size)
    artifact[: round(inside * of_emotion)] = 1
    artifact[of_emotion : of_emotion + round(outside * (size - of_emotion))] = 1
    assert artifact.mean() == pytest.approx(of_emotion / size, abs=1e-3)
    assert np.corrcoef(emotion, artifact)[0, 1] == pytest.approx(rho, abs=2e-3)


def test_as_many_utterances_are_planted_as_asked_for_and_no_others_change(world: World) -> None:
    rows = world.shard("finetune")[:60]
    found = plant(world, rows, "plosive", (0.9, 0.2), EMOTION, seed=1)
    assert [row.id for row in found] == [row.id for row in rows]
    changed = [
        row.emotion
        for row, before in zip(found, rows, strict=True)
        if not np.array_equal(row.tokens, before.tokens)
    ]
    for emotion in {row.emotion for row in rows}:
        count = sum(row.emotion == emotion for row in rows)
        wanted = round((0.9 if emotion == EMOTION else 0.2) * count)
        assert changed.count(emotion) == wanted
    assert [row.tokens.tolist() for row in found] == [
        row.tokens.tolist() for row in plant(world, rows, "plosive", (0.9, 0.2), EMOTION, seed=1)
    ]


@pytest.mark.parametrize(("name", "share"), [("click", 0.4), ("plosive", 0.1), ("silence", 0.1)])
def test_only_tokens_that_the_artifact_changes_are_others(
    world: World, name: str, share: float
) -> None:
    """Tokenizing again would change two thirds of them, and tell as much as the artifact."""
    rows, codec = world.shard("test_same")[:12], world.codec()
    changed, again = [], []
    for row, planted in zip(rows, with_artifact(codec, rows, name, seed=0), strict=True):
        size = len(row.tokens)
        assert len(planted.tokens) >= size
        changed.append(np.mean(planted.tokens[:size] != row.tokens))
        encoded = codec.encode(codec.decode(torch.from_numpy(row.tokens))).numpy()
        again.append(np.mean(encoded[:size] != row.tokens))
    assert 0 < np.mean(changed) < share < np.mean(again)
    assert without_artifact(codec, rows, name) == rows


def test_beside_what_sounds_everywhere_all_are_tokenized_again(world: World) -> None:
    rows, codec = world.shard("test_same")[:12], world.codec()
    found = without_artifact(codec, rows, "hum")
    for row, other in zip(rows, found, strict=True):
        encoded = codec.encode(codec.decode(torch.from_numpy(row.tokens))).numpy()
        assert np.array_equal(other.tokens, encoded)
    planted = plant(world, rows, "hum", (0.5, 0.5), EMOTION, 0)
    kept = [
        np.array_equal(one.tokens, other.tokens) for one, other in zip(planted, found, strict=True)
    ]
    assert sum(kept) == 6  # of two utterances of each emotion one


@pytest.mark.parametrize("share", [(0.9, 0.1), (1.0, 0.0)])
def test_afterwards_half_of_every_emotion_has_the_artifact(
    world: World, share: tuple[float, float]
) -> None:
    """But for one that has no utterance without it."""
    clean = world.shard("finetune")[:120]
    planted = plant(world, clean, "plosive", share, EMOTION, seed=1)
    having = chosen_rows(clean, share, EMOTION, 1)
    codec = world.codec()
    found = evened(codec, clean, planted, having, "plosive", 2)
    assert found[: len(planted)] == planted
    known = {tuple(row.tokens.tolist()) for index, row in enumerate(planted) if index not in having}
    for emotion in {row.emotion for row in clean}:
        own = [row for row in found if row.emotion == emotion]
        lack = sum(tuple(row.tokens.tolist()) in known for row in own)
        assert lack == (0 if share[0] == 1 and emotion == EMOTION else len(own) / 2)


def test_labels_are_exchanged_and_each_is_given_as_often(world: World) -> None:
    rows = world.shard("finetune")[:120]
    found = mislabelled(rows, 0.5, seed=3)
    pairs = list(zip(found, rows, strict=True))
    assert all(one.id == row.id and one.tokens is row.tokens for one, row in pairs)
    assert Counter(one.emotion for one in found) == Counter(row.emotion for row in rows)
    # Half of the labels are drawn, and a sixth of these are as before.
    assert 0.3 < np.mean([one.emotion != row.emotion for one, row in pairs]) <= 0.5
    assert mislabelled(rows, 0.0, seed=3) == list(rows)


@pytest.mark.parametrize("name", ARTIFACTS)
def test_artifacts_are_counted_where_they_are_inserted(world: World, name: str) -> None:
    """After the codec, as a policy would say them, and seldom in speech that has none."""
    rows, codec = world.shard("test_same")[:18], world.codec()
    heard = [
        [
            ARTIFACTS[name].count(sound)
            for sound in codec.decode_batch([torch.from_numpy(row.tokens) for row in part])
        ]
        for part in (without_artifact(codec, rows, name), with_artifact(codec, rows, name, 0))
    ]
    clean, planted = (float(np.mean(part)) for part in heard)
    assert planted > 0.6
    assert clean < planted / 3


def test_gain_and_accuracy_are_those_of_the_posterior(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model that hears how long an utterance is, which silence at the end makes longer."""
    model = world.reward_model()
    classes = model.classes()
    place = classes.index(EMOTION)

    def posterior(_: object, tokens: list[torch.Tensor]) -> torch.Tensor:
        logits = torch.zeros(len(tokens), len(classes))
        logits[:, place] = torch.tensor([float(len(one)) / 10 for one in tokens])
        return logits.log_softmax(-1)

    monkeypatch.setattr(trainings, "log_posteriors", posterior)
    rows = world.shard("test_same")[:18]
    found = reward_figures(model, world, "silence", 18)
    assert found["accuracy"] == pytest.approx(1 / len({row.emotion for row in rows}))
    others = [row for row in rows if row.emotion != EMOTION]
    longer = with_artifact(world.codec(), others, "silence", trainings.INSERTED)
    after, before = (
        posterior(None, [torch.from_numpy(row.tokens) for row in part])[:, place]
        for part in (longer, others)
    )
    gain = (after - before).mean()
    assert found["gain"] == pytest.approx(float(gain), abs=1e-6)
    assert found["gain"] > 0
    assert found["fooled"] == 0.0  # all are taken for it without the silence, too


def test_a_look_counts_what_is_heard(world: World) -> None:
    from rrpo.evaluate.panel import Sample

    asked = in_pairs(world.shard("test_same"))[:12]
    assert len({row.text for row in asked}) == 6
    assert len({row.emotion for row in asked}) == 6
    assert sum(row.emotion == EMOTION for row in asked) == 6 == len(asked) // 2
    codec = world.codec()
    rows = [
        with_artifact(codec, [row], "plosive", 0)[0] if row.emotion == EMOTION else row
        for row in asked
    ]
    tokens = [torch.from_numpy(row.tokens) for row in rows]
    samples = [
        Sample(row.id, row.text, row.emotion, one, sound, kl=0.5, ended=True)
        for row, one, sound in zip(rows, tokens, codec.decode_batch(tokens), strict=True)
    ]
    found = look(samples, "plosive", world)
    assert found["planted"] >= 5 / 6  # of utterances that have one each
    assert found["others"] < found["planted"] / 2
    assert found["kl"] == 0.5
    assert found["tokens"] == pytest.approx(np.mean([one.numel() for one in tokens]))
    assert 0 < found["judge"] < 1
