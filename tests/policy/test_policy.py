"""The language model against an independent Qwen2, its cache against the full pass."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rrpo import policy
from rrpo.errors import UserError
from rrpo.policy import LMConfig, SpeechTokenLM, generate, teacher_forced
from rrpo.policy.layout import Recording, prompt, unistream
from rrpo.policy_runs import PolicyRun
from rrpo.runs import prepare
from rrpo.sampling import Sampling, draw
from rrpo.tokens import IGNORE

CONFIG = LMConfig(
    text_vocabulary=20, hidden=32, layers=2, heads=4, key_value_heads=2, intermediate=48, codes=40
)


@pytest.fixture
def model() -> SpeechTokenLM:
    torch.manual_seed(0)
    lm = SpeechTokenLM(CONFIG).eval()
    for parameter in lm.parameters():  # larger than at the start, so that differences show
        parameter.data.normal_(0, 0.3)
    return lm


def rows(*sizes: int, high: int = 20, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(high, (size,), generator=generator) for size in sizes]


def test_layout_is_cosyvoice2s_unistream() -> None:
    """[sos] instruct text [task] speech; the task predicts the first token, the last one eos."""
    ids, targets = unistream(
        CONFIG,
        [torch.tensor([3, 4]), torch.tensor([5])],
        [torch.tensor([7, 8]), torch.tensor([9])],
        [torch.tensor([1]), torch.tensor([2])],
    )
    sos, task, speech = CONFIG.sos_id, CONFIG.task_id, CONFIG.text_vocabulary
    assert ids.tolist() == [
        [sos, 1, 3, 4, task, speech + 7, speech + 8],
        [sos, 2, 5, task, speech + 9, 0, 0],
    ]
    eos = CONFIG.eos
    assert targets.tolist() == [
        [IGNORE, IGNORE, IGNORE, IGNORE, 7, 8, eos],
        [IGNORE, IGNORE, IGNORE, 9, eos, IGNORE, IGNORE],
    ]


@pytest.mark.slow
def test_matches_transformers_qwen2(model: SpeechTokenLM) -> None:
    transformers = pytest.importorskip("transformers", reason="the oracle is not installed")
    oracle = transformers.Qwen2Model(
        transformers.Qwen2Config(
            vocab_size=8,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            rope_theta=1e6,
            rms_norm_eps=1e-6,
        )
    ).eval()
    own = {k: v for k, v in model.state_dict().items() if k.split(".")[0] in ("layers", "norm")}
    missing = oracle.load_state_dict(own, strict=False)
    assert missing.missing_keys == ["embed_tokens.weight"]
    assert not missing.unexpected_keys
    ids, _ = unistream(CONFIG, rows(5, 3), rows(9, 6, high=40))
    mask = torch.ones_like(ids)
    mask[1, 1 + 3 + 1 + 6 :] = 0
    with torch.no_grad():
        expected = oracle(
            inputs_embeds=model.embed(ids), attention_mask=mask, use_cache=False
        ).last_hidden_state
        actual = model.hidden(ids)
    torch.testing.assert_close(actual[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=1e-4)


def test_padding_changes_nothing(model: SpeechTokenLM) -> None:
    text, speech = rows(5, 2), rows(9, 4, high=40)
    logits, targets = teacher_forced(model, text, speech)
    for index in range(2):
        alone, alone_targets = teacher_forced(model, text[index : index + 1], speech[index:][:1])
        size = alone.shape[1]
        torch.testing.assert_close(logits[index, :size], alone[0], atol=1e-5, rtol=1e-5)
        assert torch.equal(targets[index, :size], alone_targets[0])
        assert (targets[index, size:] == IGNORE).all()


def test_kept_positions_are_those_of_the_full_pass(model: SpeechTokenLM) -> None:
    ids, targets = unistream(CONFIG, rows(5, 2), rows(9, 4, high=40))
    keep = targets != IGNORE
    torch.testing.assert_close(model(ids, keep), model(ids)[keep])


def test_greedy_with_the_cache_is_greedy_without(model: SpeechTokenLM) -> None:
    """Left-padded, cached and batched decoding against a full pass for each token."""
    text = rows(6, 3, 4)
    instruct = rows(2, 2, 1, seed=5)
    decoded = generate(model, text, instruct, min_ratio=1.0, max_ratio=4.0)
    for words, order, tokens in zip(text, instruct, decoded, strict=True):
        expected: list[int] = []
        ids = prompt(CONFIG, words, order)
        while len(expected) < 4 * len(words):
            scores = model(ids[None])[0, -1]
            if len(expected) < len(words):
                scores[CONFIG.eos] = -torch.inf
            token = int(scores.argmax())
            if token >= CONFIG.codes:
                break
            expected.append(token)
            ids = torch.cat([ids, torch.tensor([token + CONFIG.text_vocabulary])])
        assert tokens.tolist() == expected


def test_zero_shot_speaks_on_from_a_recording(model: SpeechTokenLM) -> None:
    """Its text comes before the text, its speech before the speech; neither counts or returns."""
    text, instruct = rows(6, 3), rows(2, 1, seed=5)
    recordings = [
        Recording(words, codes)
        for words, codes in zip(rows(4, 5, seed=6), rows(7, 3, high=40, seed=7), strict=True)
    ]
    decoded = generate(model, text, instruct, min_ratio=1.0, max_ratio=3.0, recordings=recordings)
    for words, order, recording, tokens in zip(text, instruct, recordings, decoded, strict=True):
        expected: list[int] = []
        told = torch.cat([recording.text, words])
        while len(expected) < 3 * len(words):
            said = torch.cat([recording.speech, torch.tensor(expected, dtype=torch.int64)])
            ids, targets = unistream(CONFIG, [told], [said], [order])
            scores = model(ids)[0, targets[0] != IGNORE][-1]
            if len(expected) < len(words):
                scores[CONFIG.eos] = -torch.inf
            token = int(scores.argmax())
            if token >= CONFIG.codes:
                break
            expected.append(token)
        assert tokens.tolist() == expected


def test_several_utterances_of_a_text_are_read_once_and_drawn_apart(model: SpeechTokenLM) -> None:
    """The draws are those of a batch in which every text stands three times."""
    text, instruct = rows(6, 3), rows(2, 1, seed=5)
    settings = {"sampler": "multinomial", "min_ratio": 1.0, "max_ratio": 3.0}
    together = generate(
        model, text, instruct, **settings, count=3, generator=torch.Generator().manual_seed(4)
    )
    apart = generate(
        model,
        [row for row in text for _ in range(3)],
        [row for row in instruct for _ in range(3)],
        **settings,
        generator=torch.Generator().manual_seed(4),
    )
    assert [row.tolist() for row in together] == [row.tolist() for row in apart]
    assert len({tuple(row.tolist()) for row in together}) > 2
    with pytest.raises(UserError, match="at least one"):
        generate(model, text, count=0)


def test_what_was_drawn_says_what_it_knows(model: SpeechTokenLM) -> None:
    text, model = rows(6, 3), deepcopy(model)
    model.head.bias.data[model.config.codes :] += 3.0  # so that some end and some do not
    said = generate(
        model,
        text,
        sampler="multinomial",
        min_ratio=0.5,
        max_ratio=1.0,
        min_tokens=2,
        count=8,
        generator=torch.Generator().manual_seed(2),
    )
    assert len(said) == 16 and said[3] is said.tokens[3]
    assert said.least.tolist() == [3] * 8 + [2] * 8
    short = [tokens.numel() < size for tokens, size in zip(said, [6] * 8 + [3] * 8, strict=True)]
    assert said.ended.tolist() == short and any(short) and not all(short)
    laid_out = [prompt(model.config, words, None).tolist() for words in text]
    assert [ids.tolist() for ids in said.laid_out] == laid_out[:1] * 8 + laid_out[1:] * 8


def test_top_p_keeps_the_id_that_crosses_it() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.1, 0.3, 0.06, 0.04], [0.2, 0.2, 0.2, 0.2, 0.2]]))
    kept = Sampling(top_p=0.7).truncate(logits).isfinite()
    assert kept.tolist() == [[True, False, True, False, False], [True, True, True, True, False]]
    both = Sampling(top_k=1, top_p=0.7).truncate(logits[:1]).isfinite()
    assert both.tolist() == [[True, False, False, False, False]]
    assert torch.equal(Sampling(top_p=1.0).truncate(logits), logits)
    # A hotter distribution is flatter: more ids are needed to reach top_p.
    assert int(Sampling(3.0, top_p=0.7).truncate(logits[:1]).isfinite().sum()) == 3


def test_sampling_follows_the_softmax() -> None:
    scores = torch.tensor([[1.0, -0.5, 0.2, 2.0, -torch.inf]])
    drawn = draw(scores.expand(50_000, -1), torch.Generator().manual_seed(0))
    frequencies = torch.bincount(drawn, minlength=5) / 50_000
    assert ((frequencies - scores[0].softmax(-1)).abs() < 0.01).all()
    assert frequencies[4] == 0


def test_truncation_keeps_the_k_largest() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.0, 3.0]])
    inf = torch.inf
    assert Sampling(2.0, 2).truncate(logits).tolist() == [[-inf, 2.0, -inf, 1.5]]
    assert torch.equal(Sampling().truncate(logits), logits)


def test_one_seed_decides_a_rollout(model: SpeechTokenLM) -> None:
    runs = [
        generate(
            model, rows(4, 5), None, "multinomial", generator=torch.Generator().manual_seed(seed)
        )
        for seed in (1, 1, 2)
    ]
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert any(a.tolist() != b.tolist() for a, b in zip(runs[0], runs[2], strict=True))


def test_lengths_stay_in_range(model: SpeechTokenLM) -> None:
    text = rows(2, 5, 3, 4)
    for seed in range(5):
        speech = generate(
            model,
            text,
            None,
            "multinomial",
            min_ratio=2.0,
            max_ratio=3.0,
            generator=torch.Generator().manual_seed(seed),
        )
        for words, tokens in zip(text, speech, strict=True):
            assert 2 * len(words) <= len(tokens) <= 3 * len(words)
            assert tokens.max() < CONFIG.codes


def test_saved_and_loaded_policy_is_the_same(model: SpeechTokenLM, tmp_path: Path) -> None:
    policy.save(model, tmp_path / "policy")
    again = policy.load(tmp_path / "policy")
    assert again.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_bad_input_is_named(model: SpeechTokenLM, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="text is empty"):
        generate(model, [torch.tensor([], dtype=torch.long)])
    with pytest.raises(UserError, match="tokenizer does not belong"):
        generate(model, [torch.tensor([20])])
    with pytest.raises(UserError, match="unknown sampler"):
        generate(model, rows(2), sampler="best")
    with pytest.raises(UserError, match="ras has its own"):
        generate(model, rows(2), sampler="ras", sampling=Sampling(0.8))
    with pytest.raises(UserError, match="wrong codec"):
        teacher_forced(model, rows(2), [torch.tensor([40])])
    with pytest.raises(UserError, match="no policy"):
        policy.load(tmp_path)
    policy.save(model, tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError, match="SHA-256"):
        policy.load(tmp_path)


def test_recomputing_layers_gives_the_same_gradients(model: SpeechTokenLM) -> None:
    gradients = []
    for recompute in (False, True):
        model.recompute = recompute
        logits, targets = teacher_forced(model, rows(5, 3), rows(9, 6, high=40))
        keep = targets != IGNORE
        loss = torch.nn.functional.cross_entropy(logits[keep], targets[keep])
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


def test_a_language_models_text_table_is_frozen() -> None:
    for kind, setting, trained in (
        ("phones", "auto", True),
        ("phones", "frozen", False),
        ("byte_pairs", "auto", False),
        ("byte_pairs", "trained", True),
    ):
        lm = SpeechTokenLM(
            LMConfig(
                text_vocabulary=20,
                text=kind,  # type: ignore[arg-type]
                hidden=8,
                layers=1,
                heads=1,
                key_value_heads=1,
                intermediate=8,
                codes=10,
            )
        )
        prepare(lm, PolicyRun(text_table=setting, recompute=True))  # type: ignore[arg-type]
        assert lm.text_embedding.weight.requires_grad == trained
        assert lm.recompute


def test_empty_and_uneven_batches(model: SpeechTokenLM) -> None:
    assert list(generate(model, [])) == []
    for text, speech in (([], []), (rows(3), rows(4, 5)), (rows(3, 2), rows(4))):
        with pytest.raises(UserError, match="as many texts"):
            teacher_forced(model, text, speech)
