"""CosyVoice checkpoints: parity with what upstream's classes computed, and nothing lost."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from places import GOLDEN
from rrpo.errors import UserError
from rrpo.policy import LMConfig, SpeechTokenLM, cosyvoice, generate, teacher_forced
from rrpo.sampling import draw_aware, nucleus
from rrpo.tokens import IGNORE

golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no reference outputs in {GOLDEN}")
TINY = {"num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 1e6}


def tiny(version: int, precision: str = "float32") -> SpeechTokenLM:
    torch.manual_seed(0)
    return SpeechTokenLM(
        LMConfig(
            version=version,  # type: ignore[arg-type]
            text_vocabulary=30,
            hidden=32,
            layers=2,
            heads=4,
            key_value_heads=2,
            intermediate=48,
            specials=cosyvoice.SPECIALS[version],
            precision=precision,  # type: ignore[arg-type]
            text="byte_pairs",
            codec=f"speech_tokenizer_v{version}",
        )
    ).eval()


def reference(version: int) -> tuple[SpeechTokenLM, dict[str, Tensor]]:
    config = json.loads((GOLDEN / f"cosyvoice{version}_tiny.json").read_text())["config"]
    model = cosyvoice.load(GOLDEN / f"cosyvoice{version}_tiny_llm.pt", config)
    return model, load_file(GOLDEN / f"cosyvoice{version}_tiny_io.safetensors")


def rows(io: dict[str, Tensor], name: str) -> list[Tensor] | None:
    if name not in io:
        return None
    return [row[:size] for row, size in zip(io[name], io[f"{name}_len"], strict=True)]


@golden
@pytest.mark.parametrize("layout", ["unistream", "bistream"])
@pytest.mark.parametrize("version", [2, 3])
def test_logits_targets_and_loss_are_upstreams(version: int, layout: str) -> None:
    model, io = reference(version)
    text, speech = rows(io, f"{layout}.text_token"), rows(io, f"{layout}.speech_token")
    assert text is not None and speech is not None
    with torch.no_grad():
        logits, targets = teacher_forced(
            model, text, speech, rows(io, f"{layout}.instruct_token"), layout
        )
    assert torch.equal(targets, io[f"{layout}.out.targets"])
    for row, expected, target in zip(logits, io[f"{layout}.out.logits"], targets, strict=True):
        last = int((target != IGNORE).nonzero().max()) + 1
        torch.testing.assert_close(row[:last], expected[:last], atol=1e-4, rtol=0)
    keep = targets != IGNORE
    loss = F.cross_entropy(logits[keep], targets[keep])
    torch.testing.assert_close(loss, io[f"{layout}.out.loss"][0], atol=1e-5, rtol=0)
    accuracy = (logits[keep].argmax(-1) == targets[keep]).float().mean()
    torch.testing.assert_close(accuracy, io[f"{layout}.out.acc"][0])
    # A row alone gives what it gives in the batch; in float64, as float32 rounds by the shape.
    instruct = rows(io, f"{layout}.instruct_token")
    model = model.double()
    with torch.no_grad():
        logits, _ = teacher_forced(model, text, speech, instruct, layout)
    for index in range(len(text)):
        with torch.no_grad():
            alone, _ = teacher_forced(
                model,
                text[index : index + 1],
                speech[index : index + 1],
                None if instruct is None else instruct[index : index + 1],
                layout,
            )
        size = alone.shape[1]
        torch.testing.assert_close(alone[0], logits[index, :size], atol=1e-9, rtol=0)


@golden
def test_greedy_tokens_are_upstreams() -> None:
    model, io = reference(2)
    text, expected = [row[row >= 0] for row in io["greedy.text_token"]], io["greedy.out.tokens"]
    together = generate(model, text)
    for words, found, row in zip(text, together, expected, strict=True):
        assert found.tolist() == row[row >= 0].tolist()
        assert generate(model, [words])[0].tolist() == found.tolist()


@golden
def test_repetition_aware_sampling_has_upstreams_frequencies() -> None:
    from scipy.stats import chi2_contingency

    io = load_file(GOLDEN / "ras_frequencies.safetensors")
    cases = json.loads((GOLDEN / "ras_frequencies.json").read_text())
    generator, draws = torch.Generator().manual_seed(0), cases["draws"]
    for case, freq in zip(cases["cases"], io["freq"], strict=True):
        scores = io[case["scores"]].expand(draws, -1)
        history = torch.tensor([case["history"]], dtype=torch.long).expand(draws, -1)
        found = draw_aware(scores, history, generator).bincount(minlength=scores.shape[1])
        theirs = (freq * draws if float(freq.sum()) < 2 else freq).round().long()
        seen = (found + theirs) > 0
        table = torch.stack([found[seen], theirs[seen]]).numpy()
        if table.shape[1] > 1:
            assert chi2_contingency(table).pvalue > 1e-4, case


def test_the_id_that_crosses_top_p_is_kept() -> None:
    scores = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
    assert torch.isfinite(nucleus(scores, 0.6, 25)).tolist() == [[True, True, False, False]]
    assert torch.isfinite(nucleus(scores, 0.6, 1)).tolist() == [[True, False, False, False]]


def test_version_3_never_stops_before_the_minimum() -> None:
    """Upstream masks the wrong id there: sos, where eos is meant."""
    model = tiny(3)
    with torch.no_grad():  # the same hidden state at every position: eos wins, then code 7
        for layer in model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.text_embedding.weight.fill_(1.0)
        model.speech_embedding.weight.fill_(1.0)
        model.head.weight.fill_(-1.0)
        model.head.weight[model.config.eos] = 1.0
        model.head.weight[7] = 0.5
    spoken = generate(model, [torch.tensor([3, 4, 5])], min_ratio=4.0, max_ratio=9.0)
    assert spoken[0].tolist() == [7] * 12


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("version", [2, 3])
def test_nothing_is_lost_on_the_way_out_and_in(
    tmp_path: Path, version: int, precision: str
) -> None:
    cosyvoice.save(tiny(version, precision), tmp_path / "a.pt")
    model = cosyvoice.load(tmp_path / "a.pt", TINY)
    assert model.config == tiny(version, precision).config
    cosyvoice.save(model, tmp_path / "b.pt")
    first, second = (torch.load(tmp_path / name, weights_only=True) for name in ("a.pt", "b.pt"))
    assert first.keys() == second.keys()
    assert cosyvoice.TIED in first
    for key, value in first.items():
        assert value.dtype == getattr(torch, precision)
        assert torch.equal(value, second[key])


@golden
@pytest.mark.parametrize("version", [2, 3])
def test_upstreams_own_file_comes_out_as_it_went_in(tmp_path: Path, version: int) -> None:
    source = GOLDEN / f"cosyvoice{version}_tiny_llm.pt"
    model, _ = reference(version)
    cosyvoice.save(model, tmp_path)
    before, after = (torch.load(path, weights_only=True) for path in (source, tmp_path / "llm.pt"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_checkpoint_of_training_with_its_bookkeeping(tmp_path: Path) -> None:
    cosyvoice.save(tiny(2), tmp_path / "llm.pt")
    state = torch.load(tmp_path / "llm.pt", weights_only=True)
    torch.save({**state, "epoch": 3, "step": 1200}, tmp_path / "epoch_3_whole.pt")
    model = cosyvoice.load(tmp_path / "epoch_3_whole.pt", TINY)
    assert torch.equal(model.head.weight, tiny(2).head.weight)


def tokenizer() -> Any:
    """A tokenizer of 30 words, as long as the tiny text table."""
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {f"word{number}": number for number in range(30)}
    model = tokenizers.models.WordLevel(words, unk_token="word0")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(model))


def test_the_hugging_face_form_keeps_its_bias(tmp_path: Path) -> None:
    model = tiny(2)
    torch.nn.init.normal_(model.head.bias)
    cosyvoice.save_hugging_face(model, tokenizer(), tmp_path / "hf")
    state = load_file(tmp_path / "hf" / "model.safetensors")
    assert state["lm_head.weight"].shape[0] % 128 == 0
    assert not torch.isfinite(state["lm_head.bias"][:30]).any()
    for name, value in cosyvoice.load(tmp_path / "hf").state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    generation = json.loads((tmp_path / "hf" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [30 + 6561, 30 + 6562, 30 + 6563]
    with pytest.raises(UserError, match="belongs to another model"):
        longer = tokenizer()
        longer.add_tokens(["more"])
        cosyvoice.save_hugging_face(model, longer, tmp_path / "longer")
    with pytest.raises(UserError, match="for CosyVoice2 alone"):
        cosyvoice.save_hugging_face(tiny(3), tokenizer(), tmp_path / "3")


@pytest.mark.slow
def test_the_hugging_face_form_gives_the_same_logits(tmp_path: Path) -> None:
    """Read by transformers itself, codes and specials in one vocabulary."""
    transformers = pytest.importorskip("transformers", reason="the oracle is not installed")
    model = tiny(2)
    cosyvoice.save_hugging_face(model, tokenizer(), tmp_path)
    oracle = transformers.Qwen2ForCausalLM.from_pretrained(tmp_path).eval()
    text, speech = torch.tensor([3, 4]), torch.tensor([5, 6560])
    ids = torch.cat([torch.tensor([30 + 6564]), text, torch.tensor([30 + 6565]), 30 + speech])
    with torch.no_grad():
        expected = oracle(ids[None]).logits[0, :, 30 : 30 + 6564] + model.head.bias
        actual, _ = teacher_forced(model, [text], [speech])
    torch.testing.assert_close(actual[0], expected, atol=1e-5, rtol=0)


class Harmful:
    def __reduce__(self) -> Any:
        return os.system, ("touch harmed",)


def test_the_copy_of_the_text_table_may_be_left_out(tmp_path: Path) -> None:
    model = tiny(2)
    cosyvoice.save(model, tmp_path / "llm.pt")
    state = torch.load(tmp_path / "llm.pt", weights_only=True)
    del state[cosyvoice.TIED]
    torch.save(state, tmp_path / "x.pt")
    found = cosyvoice.load(tmp_path / "x.pt", TINY)
    for name, weight in model.state_dict().items():
        assert torch.equal(found.state_dict()[name], weight), name
    cosyvoice.save(found, tmp_path / "again.pt")  # upstream's strict loader wants it
    assert cosyvoice.TIED in torch.load(tmp_path / "again.pt", weights_only=True)


def test_wrong_files_get_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = tmp_path / "llm.pt"
    cosyvoice.save(tiny(2), whole)
    state = torch.load(whole, weights_only=True)

    def mistake(**changed: Any) -> str:
        torch.save({k: v for k, v in (state | changed).items() if v is not None}, "x.pt")
        with pytest.raises(UserError) as error:
            cosyvoice.load("x.pt", TINY)
        return str(error.value)

    assert "lacks the weight llm_decoder.bias" in mistake(**{"llm_decoder.bias": None})
    assert "unexpected weight surplus" in mistake(surplus=torch.zeros(2))
    other = state["llm_embedding.weight"]
    renamed = mistake(**{"llm_embedding.weight": None, "llm_embed.weight": other})
    assert "lacks the weight llm_embedding.weight" in renamed
    gone = {"llm_embedding.weight": None, "llm_decoder.bias": None}
    assert "6564 rows of speech, expected 6761" in mistake(**gone)
    few = {key: state[key][:6000] for key in ("speech_embedding.weight", "llm_decoder.weight")}
    assert "6000 rows of speech" in mistake(**few)
    assert "is no tensor" in mistake(**{"llm_decoder.bias": torch.zeros(6564).to_sparse()})
    narrow = {"llm.model.model.layers.1.mlp.up_proj.weight": torch.ones(3, 32)}
    assert "has shape (3, 32), expected (48, 32)" in mistake(**narrow)
    eighth = {"llm_decoder.bias": state["llm_decoder.bias"].to(torch.float8_e4m3fn)}
    assert "llm_decoder.bias is float8_e4m3fn: quantized" in mistake(**eighth)
    assert "holds NaN" in mistake(**{"llm_decoder.bias": torch.full((6564,), torch.nan)})
    assert "no matrix" in mistake(**{"speech_embedding.weight": torch.zeros(6564)})
    far = "llm.model.model.layers.999.mlp.up_proj.weight"
    assert "lacks layer 2" in mistake(**{far: torch.ones(48, 32)})
    assert "divide" in _load_error(whole, TINY | {"num_attention_heads": 5})
    for key, value in (
        ("num_attention_heads", 0),
        ("num_attention_heads", "two"),
        ("num_key_value_heads", -2),
        ("rope_theta", "a"),
        ("rope_theta", float("inf")),
        ("rms_norm_eps", None),
        ("rope_parameters", {"rope_theta": "a"}),
    ):
        assert key in _load_error(whole, TINY | {key: value})
    torch.save({"text_embedding.weight": torch.zeros(2)}, "cosyvoice1.pt")
    assert "no CosyVoice2 or CosyVoice3" in _load_error("cosyvoice1.pt")
    torch.save({"decoder": Harmful()}, "harm.pt")
    assert f"holds more than tensors: {os.system.__module__}.system" in _load_error("harm.pt")
    assert "Re-running" not in _load_error("harm.pt")
    assert not (tmp_path / "harmed").exists()
    (tmp_path / "half.pt").write_bytes(whole.read_bytes()[:20000])
    assert "truncated" in _load_error("half.pt")
    for text in ("not found", "hello world", "", "c"):
        (tmp_path / "text.pt").write_text(text)
        assert "truncated" in _load_error("text.pt")
    assert "no such file" in _load_error("nothing.pt")
    (tmp_path / "empty").mkdir()
    assert "no such file" in _load_error("empty")


def _load_error(path: Path | str, config: dict[str, Any] | None = None) -> str:
    with pytest.raises(UserError) as error:
        cosyvoice.load(path, config)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_weights_that_are_not_finite_are_neither_read_nor_written(tmp_path: Path) -> None:
    model = tiny(2)
    model.norm.weight.data[0] = 1e6
    model.config = model.config.model_copy(update={"precision": "float16"})
    with pytest.raises(UserError, match="float16 ends at 65504"):
        cosyvoice.save(model, tmp_path / "llm.pt")
    model.norm.weight.data[0] = torch.nan
    with pytest.raises(UserError, match="holds NaN or infinity"):
        cosyvoice.save(model, tmp_path / "llm.pt")
    assert not (tmp_path / "llm.pt").exists()
