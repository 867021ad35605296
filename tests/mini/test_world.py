"""The bundled world is whole, small enough, and speaks."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from rrpo.codec_identity import SPEECH_CODES
from rrpo.errors import UserError
from rrpo.mini.mixes import mix_pool
from rrpo.mini.world import ASSETS, TEST_SETS, World
from rrpo.policy.layout import make_prompt
from rrpo.speaking.mini import draw, unseen_utterances
from rrpo.tokens import digits


def test_assets_have_their_hashes_and_weigh_at_most_24_megabytes() -> None:
    World().check()
    size = sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file())
    assert size <= 24e6


def test_a_changed_asset_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ASSETS, tmp_path / "world")
    weights = tmp_path / "world" / "judge" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match="SHA-256"):
        World(tmp_path / "world").check()
    weights.unlink()
    with pytest.raises(UserError, match="missing"):
        World(tmp_path / "world").check()


def test_training_and_test_texts_differ() -> None:
    world = World()
    finetune = {row.text for row in world.shard("finetune")}
    assert len(finetune) >= 100
    for shard in TEST_SETS.values():
        assert not finetune & {row.text for row in world.shard(shard)}


@pytest.mark.slow
def test_a_mix_pool_of_the_worlds_own_speech() -> None:
    world = World()
    rows = world.shard("finetune")[:4]
    pool = mix_pool(world.codec(), rows, 2, seed=0)
    originals = {row.id: row for row in rows}
    assert len(pool) == 8
    for row in pool:
        source = originals[row.id.rsplit("-", 1)[0]]
        assert (row.text, row.emotion) == (source.text, source.emotion)
        assert row.tokens.size == source.tokens.size
        assert 0 <= row.partner_weight < 0.5  # at most half is covered, by less than everything
    assert any((row.tokens != originals[row.id.rsplit("-", 1)[0]].tokens).any() for row in pool)


@pytest.mark.slow
def test_the_base_speaks_unseen_sentences() -> None:
    world = World()
    rows = unseen_utterances(world, 2)
    prompts = [make_prompt(world.tokenizer, row.text, row.emotion) for row in rows]
    speech = [one.tokens for one in draw(world.policy(), prompts, seed=0)]
    real = np.mean([row.tokens.size for row in rows])
    assert 0.6 * real < np.mean([tokens.numel() for tokens in speech]) < 1.6 * real
    sounds = world.codec().decode_batch(speech)
    for tokens, sound in zip(speech, sounds, strict=True):
        assert int(tokens.min()) >= 0
        assert int(tokens.max()) < SPEECH_CODES
        assert sound.size == 640 * tokens.numel()
        assert 0.05 < np.abs(sound).max() <= 1.0


def test_each_seed_of_a_study_says_other_sentences() -> None:
    world = World()
    parts = [[row.text for row in unseen_utterances(world, 6, 6 * seed)] for seed in range(9)]
    assert all(len(part) == 36 and len(set(part)) == 6 for part in parts)
    assert len({text for part in parts[:8] for text in part}) == 48
    assert set(parts[8]) & set(parts[0])  # of fifty sentences the ninth seed has to begin again


@pytest.mark.slow
def test_a_codec_round_trip_keeps_most_digits_and_a_fifth_of_the_tokens() -> None:
    """By chance a third of the digits would be kept, and no token in a thousand."""
    world = World()
    codec = world.codec()
    before = [torch.from_numpy(row.tokens) for row in world.shard("test_same")[::10]]
    after = [codec.encode(sound) for sound in codec.decode_batch(before)]
    assert [one.shape for one in after] == [one.shape for one in before]
    old, new = torch.cat(before), torch.cat(after)
    assert float((digits(old) == digits(new)).float().mean()) > 0.8
    assert float((old == new).float().mean()) > 0.2


@pytest.mark.slow
def test_the_reward_model_and_the_judge_are_better_than_chance() -> None:
    """Chance is one sixth; the bundled pre-trained model has never seen these texts."""
    from rrpo.evaluate.ser import evaluate

    world = World()
    rows = world.shard("test_same")
    assert evaluate(world.reward_model(), rows)["accuracy"].low > 0.3
    some = rows[::5]
    codec, judge = world.codec(), world.judge()
    heard = judge.probabilities_batch(
        codec.decode_batch([torch.from_numpy(row.tokens) for row in some])
    )
    names = [judge.emotions[index] for index in heard.argmax(1)]
    accuracy = np.mean([name == row.emotion for name, row in zip(names, some, strict=True)])
    assert accuracy > 0.4


@pytest.mark.slow
def test_the_task_model_reads_words_and_degraded_speech() -> None:
    from rrpo_world.multitask import figures
    from rrpo_world.tasks import as_sample

    world = World()
    samples = [as_sample(row, world.tokenizer) for row in world.shard("test_same")[::6]]
    found = figures(world.task_model(), samples, samples[:1])
    assert found["phone_error"].mean < 0.4
    assert found["quality"].mean > 0.8
