"""What a precision cannot hold is named and not written, in every form of the export."""

import warnings
from pathlib import Path

import pytest
import torch

from rrpo.errors import UserError
from rrpo.policy import LMConfig, SpeechTokenLM, cosyvoice
from rrpo.policy.precision import PRECISIONS, in_precision, parse_precision

SIZES = {"hidden": 32, "layers": 1, "heads": 4, "key_value_heads": 2, "intermediate": 48}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def model() -> SpeechTokenLM:
    torch.manual_seed(0)
    return SpeechTokenLM(LMConfig(text_vocabulary=30, **SIZES)).eval()


def vocabulary() -> object:
    """A tokenizer of 30 words."""
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {f"word{number}": number for number in range(30)}
    inner = tokenizers.models.WordLevel(words, unk_token="word0")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(inner))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_come_back_as_close_as_the_precision_allows(tmp_path: Path, precision: str) -> None:
    before = model()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # ordinary weights give no reason for a note
        cosyvoice.save(before, tmp_path / "llm.pt", parse_precision(precision))
    after = cosyvoice.load(tmp_path / "llm.pt", HEADS)
    assert after.config.precision == precision
    dtype = getattr(torch, precision)
    for name, value in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], value.to(dtype).float()), name
    ids = torch.arange(30)[None]
    with torch.no_grad():
        difference = float((after(ids) - before(ids)).abs().max())
    assert difference <= {"float32": 0.0, "bfloat16": 0.05, "float16": 0.01}[precision]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_refused_by_name(tmp_path: Path, precision: str, value: float) -> None:
    broken = model()
    broken.layers[0].mlp.up_proj.weight.data[3, 4] = value
    with pytest.raises(UserError, match=r"layers\.0\.mlp\.up_proj\.weight holds NaN or infinity"):
        cosyvoice.save(broken, tmp_path / "llm.pt", parse_precision(precision))
    with pytest.raises(UserError, match=r"layers\.0\.mlp\.up_proj\.weight holds NaN"):
        cosyvoice.save_hugging_face(
            broken, vocabulary(), tmp_path / "hf", parse_precision(precision)
        )
    assert not list(tmp_path.iterdir())


def test_what_float16_cannot_reach_is_refused_and_bfloat16_takes_it(tmp_path: Path) -> None:
    large = model()
    large.head.weight.data[0, 0] = -70000.0
    with pytest.raises(UserError, match=r"llm_decoder\.weight reaches 7e\+04 and float16 ends at"):
        cosyvoice.save(large, tmp_path / "llm.pt", "float16")
    with pytest.raises(UserError, match=r"head\.weight reaches 7e\+04 and float16 ends at 65504"):
        cosyvoice.save_hugging_face(large, vocabulary(), tmp_path / "hf", "float16")
    assert not list(tmp_path.iterdir())
    cosyvoice.save(large, tmp_path / "llm.pt", "bfloat16")
    cosyvoice.save_hugging_face(large, vocabulary(), tmp_path / "hf", "bfloat16")
    assert cosyvoice.load(tmp_path / "hf").config.precision == "bfloat16"


def test_the_edges_of_each_precision() -> None:
    target = Path("llm.pt")
    for precision in PRECISIONS:
        largest = torch.finfo(getattr(torch, precision)).max
        state = {"edge": torch.tensor([largest, -largest])}
        assert in_precision(state, precision, target, {})["edge"].float().tolist() == [
            largest,
            -largest,
        ]
    beyond = torch.tensor([torch.finfo(torch.float32).max])  # rounds to infinity in bfloat16
    with pytest.raises(UserError, match=r"theirs reaches 3\.403e\+38 and bfloat16 ends at 3\.3895"):
        in_precision({"ours": beyond}, "bfloat16", target, {"ours": "theirs"})


def test_what_becomes_zero_is_told_in_one_line(tmp_path: Path) -> None:
    small = model()
    small.layers[0].self_attn.o_proj.weight.data.mul_(1e-7)
    with pytest.warns(UserWarning, match=r"1 weights lose over 1% .*o_proj\.weight") as told:
        cosyvoice.save(small, tmp_path / "llm.pt", "float16")
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cosyvoice.save(small, tmp_path / "b.pt", "bfloat16")


def test_an_unknown_precision() -> None:
    with pytest.raises(UserError, match="unknown precision 'int8': choose one of float32"):
        parse_precision("int8")
