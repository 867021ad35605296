"""A content head of one's own: symbols, the loss beside the emotion's, what is refused."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from rrpo import runs
from rrpo.data.shards import Utterance
from rrpo.errors import UserError
from rrpo.evaluate.tasks import edits, symbol_error
from rrpo.mini.world import World
from rrpo.policy.layout import Prompt
from rrpo.reward import Reward, RewardConfig, RewardModel
from rrpo.reward.config import FitConfig, RewardRun
from rrpo.reward.content import ContentHead, characters, frequent_symbols
from rrpo.reward.differentiable import score
from rrpo.reward.fit import RewardObjective
from rrpo.reward.model import load, save
from rrpo.reward.transcripts import Transcripts, prepare_head, readable_texts
from rrpo.tokens import length_mask, pad
from rrpo.train import TrainConfig

SHAPE = {"width": 16, "layers": 1, "heads": 2, "feedforward": 32, "dropout": 0.0, "codes": 81}
EMOTIONS = ["calm", "angry"]
BOTH = ["emotion", "content"]
PLAIN = {"batch_size": 6, "label_smoothing": 0.0, "mixup": False, "adversarial": False}
WORDS = ("aba", "bab", "abba", "", "aab", "bbab")


def new_model(**told: object) -> RewardModel:
    torch.manual_seed(0)
    return RewardModel(
        RewardConfig.model_validate({"tasks": {"emotion": EMOTIONS}, **SHAPE, **told})
    )


def corpus(texts: tuple[str, ...] = WORDS, frames: int = 9) -> list[Utterance]:
    rng = np.random.default_rng(0)
    return [
        Utterance(f"{n}", text, EMOTIONS[n % 2], rng.integers(0, 81, frames + n % 3))
        for n, text in enumerate(texts)
    ]


def said(rows: list[Utterance]) -> Transcripts:
    texts = [torch.tensor(characters(row.text), dtype=torch.int64) for row in rows]
    return Transcripts("characters", texts)


def both(
    rows: list[Utterance], pool: list[Utterance] | None = None, **fit: object
) -> RewardObjective:
    model = new_model()
    prepare_head(model, said(rows), seed=3)
    config = FitConfig.model_validate({"tasks": BOTH, **fit})
    return RewardObjective(model, rows, config, pool or [], said(rows))


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def alignments(log_p: Tensor, classes: list[int]) -> float:
    """Sum the probability of every path of classes and blanks that collapses to a text."""
    total = 0.0
    for path in itertools.product(range(log_p.shape[1]), repeat=log_p.shape[0]):
        kept = [s for t, s in enumerate(path) if t == 0 or path[t - 1] != s]
        if [s for s in kept if s] == classes:
            total += float(sum(log_p[t, s] for t, s in enumerate(path)).detach().exp())
    return total


def by_torch(model: RewardModel, rows: list[Utterance]) -> float:
    """The mean CTC loss in nats per symbol of rows with text, one by one."""
    head, losses = model.content_head(), []
    places = {ord(sign): place for place, sign in enumerate("ab", 1)}
    for row in rows:
        if row.text:
            tokens = torch.from_numpy(row.tokens)[None]
            mask = torch.ones_like(tokens, dtype=torch.bool)
            log_p = head(model.encode(model.embed(tokens), mask)).log_softmax(-1)
            target = torch.tensor([[places.get(ord(sign), 3) for sign in row.text]])
            loss = torch.nn.functional.ctc_loss(
                log_p.transpose(0, 1), target, [tokens.shape[1]], [target.shape[1]], reduction="sum"
            )
            losses.append(float(loss.detach()) / len(row.text))
    return float(np.mean(losses))


def test_characters_are_of_any_script() -> None:
    def again(text: str) -> str:
        return "".join(map(chr, characters(text)))

    assert again("  Don’t -- STOP, it's “12”…") == "dont stop its 12"
    assert again("你好,世界。") == "你好 世界"
    assert again("ﬁn １") == "fin 1"
    assert characters("?!") == []


def test_a_listed_head_sums_over_all_alignments_and_shares_a_class_for_the_rest() -> None:
    model = new_model(symbols=[7, 40], text="ids")
    head = model.content_head()
    assert head.out_features == 4 and head.unknown == 3
    tokens = torch.tensor([[1, 5, 9, 2]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    hidden = model.encode(model.embed(tokens), mask)
    log_p = head(hidden)[0].log_softmax(-1)
    for text, classes in (([7, 40], [1, 2]), ([40, 40], [2, 2]), ([7, 150_000], [1, 3])):
        found = model.content_log_likelihood(hidden, mask, [torch.tensor(text)])
        expected = alignments(log_p, classes)
        assert float(found[0].detach().exp() ** 2) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(UserError, match="knows no symbol"):
        model.content_log_likelihood(hidden, mask, [torch.tensor([8, 9])])


def test_symbols_that_occur_once_are_trained_as_unknown() -> None:
    rows = corpus(("abca", "bab", "ba"))
    assert frequent_symbols(text.tolist() for text in said(rows).texts) == [97, 98]
    model = new_model()
    prepare_head(model, said(rows), seed=0)
    assert (model.config.text, model.config.symbols) == ("characters", [97, 98])
    assert model.content_head().classes(said(rows).texts[0]).tolist() == [1, 2, 3, 1]


@pytest.mark.parametrize("adversarial", [False, True])
def test_the_loss_is_the_emotions_and_weight_times_the_contents(adversarial: bool) -> None:
    rows = corpus()
    objective = both(rows, **{**PLAIN, "adversarial": adversarial}, content_weight=0.7)
    model = objective.model
    loss, metrics = objective.loss(0, seeded())
    alone = RewardObjective(new_model(), rows, FitConfig(**{**PLAIN, "adversarial": adversarial}))  # type: ignore[arg-type]
    emotion, _ = alone.loss(0, seeded())
    drawn = [rows[row] for row in objective.draw(seeded()).tolist()]
    assert {row.text for row in drawn} & {""}  # one without text is in the batch
    content = by_torch(model, drawn)
    assert metrics["loss_content"] == pytest.approx(content, rel=1e-4)
    assert loss.item() == pytest.approx(emotion.item() + 0.7 * content, rel=1e-4)


@pytest.mark.parametrize("at", ["features", "audio"])
def test_content_is_of_the_utterances_before_they_are_mixed(at: str) -> None:
    rows = corpus()
    pool = [Utterance("p", "ab", "calm", np.arange(9), partner_emotion="angry", partner_weight=0.3)]
    objective = both(rows, pool, batch_size=6, mixup_at=at)
    model, passes = objective.model, []
    encode = model.encode
    model.encode = lambda *given: passes.append(len(given[0])) or encode(*given)  # type: ignore[method-assign, func-returns-value]
    _, metrics = objective.loss(0, seeded())
    model.encode = encode  # type: ignore[method-assign]
    clean = [rows[row] for row in both(rows, **PLAIN).draw(seeded()).tolist()]
    assert metrics["mixed"] == 1.0
    assert metrics["loss_content"] == pytest.approx(by_torch(model, clean), rel=1e-4)
    assert passes == [6, sum(bool(row.text) for row in clean)]


def test_one_pass_where_nothing_is_mixed() -> None:
    objective = both(corpus(), **PLAIN)
    encode, passes = objective.model.encode, []
    objective.model.encode = lambda *given: passes.append(1) or encode(*given)  # type: ignore[method-assign, func-returns-value]
    loss, _ = objective.loss(0, seeded())
    loss.backward()
    assert passes == [1]
    assert objective.model.content_head().weight.grad is not None


def test_heads_alone_can_be_tuned() -> None:
    objective = both(corpus(), **PLAIN, tune="heads")
    objective.loss(0, seeded())[0].backward()
    trained = {name for name, one in objective.model.named_parameters() if one.grad is not None}
    assert {"content.weight", "content.bias", "head.emotion.weight"} < trained
    assert not any(name.startswith(("encoder", "embedding")) for name in trained)


def test_a_batch_without_text_has_the_emotions_loss() -> None:
    objective = both(corpus(("", "", "", "", "", "abab")), **{**PLAIN, "batch_size": 1})
    found = [objective.loss(0, seeded(seed))[1] for seed in range(12)]
    assert {"loss_content" in metrics for metrics in found} == {True, False}


def test_a_model_keeps_its_symbols(tmp_path: Path) -> None:
    rows = corpus()
    objective = both(rows, **PLAIN)
    objective.save(tmp_path)
    again = load(tmp_path)
    assert (again.config.text, again.config.symbols) == ("characters", [97, 98])
    # It goes on with texts whose symbols it knows, and with no others.
    weight = again.content_head().weight
    prepare_head(again, said(corpus(("aa", "bb"))), seed=9)
    assert again.content_head().weight is weight
    for other in (said(corpus(("cc", "bb"))), Transcripts("ids", said(rows).texts)):
        with pytest.raises(UserError, match="other symbols"):
            prepare_head(again, other, seed=9)


def test_the_bundled_model_is_read_as_before() -> None:
    model = World().task_model()
    assert model.config.symbols == [] and model.config.text == "ids"
    assert isinstance(model.content, ContentHead)
    rows = World().shard("test_same")[:6]
    texts = [torch.tensor(World().tokenizer.encode(row.text)) for row in rows]
    assert symbol_error(model, rows, texts).mean < 0.3


def test_symbol_error_by_hand() -> None:
    model = new_model(symbols=[97, 98], text="characters")
    with torch.no_grad():  # code 1 is a, code 2 is b, 3 is unknown, all others are blank
        head = model.content_head()
        model.encode = lambda embeddings, _: embeddings  # type: ignore[method-assign]
        model.table.zero_()
        head.weight.zero_()
        head.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        for code in (1, 2, 3):
            model.table[code, code] = 1.0
            head.weight[code, code] = 9.0
    tokens = np.array([1, 1, 0, 1, 2, 3])
    rows = [Utterance("x", "", "calm", tokens, speaker=name) for name in ("one", "two")]
    texts = [torch.tensor([97, 97, 98]), torch.tensor([97, 98, 200])]
    # Read is a a b ?: one insertion; against a b ? an insertion, and ? is never right.
    found = symbol_error(model, rows, texts)
    assert found.mean == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert edits([1, 1, 2, 3], [1, 2, 0]) == 2


def test_one_model_pays_emotion_and_content() -> None:
    rows = corpus()
    model = both(rows, **PLAIN).model.eval()
    reward = Reward([model], {"emotion": 1.0, "content": 5.0})
    prompts = [
        Prompt(row.text or "ab", "calm", torch.tensor([9]), torch.tensor([0])) for row in rows
    ]
    speech = [torch.from_numpy(row.tokens) for row in rows]
    found = score(reward, speech, prompts)
    tokens, mask = pad(speech), length_mask(torch.tensor([one.numel() for one in speech]))
    texts = [torch.tensor(characters(prompt.text)) for prompt in prompts]
    wanted = model.content_log_likelihood(model.encode(model.embed(tokens), mask), mask, texts)
    torch.testing.assert_close(found["content"], wanted)
    reward.check(prompts[:1])
    with pytest.raises(UserError, match=r"'xyz': .* knows no symbol"):
        reward.check([Prompt("xyz", "calm", torch.tensor([97]), torch.tensor([0]))])


def test_what_cannot_be_trained_is_refused() -> None:
    silent = corpus(("", "", ""))
    with pytest.raises(UserError, match="no symbol occurs twice"):
        prepare_head(new_model(), said(silent), seed=0)
    model = new_model(phones=5)
    with pytest.raises(UserError, match="needs utterances with text"):
        RewardObjective(model, silent, FitConfig(tasks=["emotion", "content"]), (), said(silent))
    rows = corpus(("aaaa", "bbbb"), frames=3)
    with pytest.raises(UserError, match="all 2 are longer than their speech"):
        both(rows, **PLAIN)
    with pytest.raises(UserError, match="no content head"):
        RewardObjective(new_model(), rows, FitConfig(tasks=["emotion", "content"]), (), said(rows))
    with pytest.warns(UserWarning, match="content head is not trained"):
        RewardObjective(new_model(phones=5), corpus(), FitConfig())
    rows = corpus(("ab", "ab", "abababababababab"))
    prepare_head(model := new_model(), said(rows), seed=0)
    with pytest.warns(UserWarning, match="1 of 3 texts"):
        assert readable_texts(model, rows, said(rows))[2] is None


@pytest.mark.parametrize(
    "told",
    [
        {"symbols": [3, 2]},
        {"symbols": [2, 2]},
        {"symbols": [-1]},
        {"symbols": [1], "phones": 4},
        {"phones": 4, "text": "characters"},
        {"text": "words"},
    ],
)
def test_descriptions_are_strict(told: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        new_model(**told)


def test_tasks_are_named_once_and_in_order() -> None:
    assert FitConfig.model_validate({"tasks": ["content", "emotion"]}).tasks == BOTH
    for wrong in (["content"], [], ["emotion", "emotion"], ["emotion", "speaker"]):
        with pytest.raises(ValidationError):
            FitConfig.model_validate({"tasks": wrong})


def test_a_run_that_goes_on_ends_bit_for_bit_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = corpus()
    train = TrainConfig(steps=4, learning_rate=1e-3, warmup_steps=1, save_every=2)
    config = RewardRun(
        train=train, fit=FitConfig(batch_size=4, tasks=["emotion", "content"]), text_of="characters"
    )

    def run(name: str, resume: bool = False) -> RewardModel:
        model = new_model(dropout=0.1)
        given = (model, rows, [], config, tmp_path / name, said(rows))
        runs.train_reward(*given, description="", resume=resume)
        return model

    whole = run("whole")
    calls = itertools.count(1)
    loss = RewardObjective.loss

    def failing(*given: object) -> object:
        if next(calls) == 4:
            raise KeyError("killed")
        return loss(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(RewardObjective, "loss", failing)
    with pytest.raises(KeyError):
        run("cut")
    monkeypatch.setattr(RewardObjective, "loss", loss)
    for name, weight in run("cut", resume=True).state_dict().items():
        assert torch.equal(weight, whole.state_dict()[name]), name
    save(whole, tmp_path / "copy")
    assert load(tmp_path / "copy").config.symbols == [97, 98]
