"""The decoding step against the full pass: left padding, dropped rows, adapters, half precision."""

import pytest
import torch
from torch import Tensor

from rrpo.policy import LMConfig, SpeechTokenLM, generate
from rrpo.policy import packed_weights as module
from rrpo.policy.adapter import adapted, add_adapters
from rrpo.policy.packed_weights import Decoder


def lm(version: int = 2) -> SpeechTokenLM:
    torch.manual_seed(0)
    shape = {"hidden": 32, "layers": 2, "heads": 4, "key_value_heads": 2, "intermediate": 48}
    specials = 3 if version == 2 else 200
    made = SpeechTokenLM(
        LMConfig(text_vocabulary=20, codes=40, specials=specials, version=version, **shape)  # type: ignore[arg-type]
    ).eval()
    for parameter in made.parameters():  # the norms' gains too
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    return made


def decoded(model: SpeechTokenLM, sizes: list[int], steps: int) -> tuple[Tensor, Tensor]:
    """Return hidden states (B, steps, D) of decoding, and those of an unpadded pass."""
    generator = torch.Generator().manual_seed(1)
    heads = [torch.randint(20, (size,), generator=generator) for size in sizes]
    speech = torch.randint(40, (len(sizes), steps), generator=generator)
    longest = max(sizes)
    cache = model.new_cache(len(sizes), longest + steps)
    ids = torch.stack([torch.nn.functional.pad(row, (longest - row.numel(), 0)) for row in heads])
    for index, size in enumerate(sizes):
        cache.mask[index, longest - size : longest] = True
    with torch.no_grad():
        model.hidden(ids, cache)
        decoder = Decoder(model, cache)
        found = torch.stack([decoder.step(speech[:, step]) for step in range(steps)], dim=1)
        rows = [torch.cat([head, row + 20]) for head, row in zip(heads, speech, strict=True)]
        expected = torch.stack([model.hidden(row[None])[0, -steps:] for row in rows])
    return found, expected


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(("narrow", "some"), [(512, 6), (0, 6), (0, 1)])
def test_steps_are_those_of_the_full_pass(
    version: int, narrow: int, some: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every layout of the weights, with left padding."""
    monkeypatch.setattr(module, "NARROW", narrow)
    monkeypatch.setattr(module, "SOME_ROWS", some)
    found, expected = decoded(lm(version), [5, 2, 7], 6)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_adapters_are_part_of_the_weights() -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    model = lm()
    add_adapters(model, rank=4)
    for _, layer in adapted(model):
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.5)
    found, expected = decoded(model, [4, 6], 4)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_rows_that_are_dropped_leave_the_others_as_they_are() -> None:
    """Utterances that end early: each equals what is decoded alone."""
    model = lm()
    texts = [torch.randint(20, (size,)) for size in (3, 5, 2, 6)]
    together = generate(model, texts, min_ratio=0.0, max_ratio=6.0)
    alone = [generate(model, [text], min_ratio=0.0, max_ratio=6.0)[0] for text in texts]
    assert len({row.numel() for row in together}) > 1
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one, other)


def test_half_precision_decodes_in_half_precision() -> None:
    model = lm()
    text = [torch.arange(5), torch.arange(3)]
    with torch.autocast("cpu", torch.bfloat16):
        generator = torch.Generator().manual_seed(0)
        speech = generate(model, text, None, "multinomial", 2.0, 4.0, generator)
    assert 10 <= speech[0].numel() <= 20
    assert 6 <= speech[1].numel() <= 12
    with torch.no_grad():
        cache = model.new_cache(1, 8, torch.bfloat16)
        cache.mask[:, :4] = True
        with torch.autocast("cpu", torch.bfloat16):
            model.hidden(torch.tensor([[1, 2, 3, 4]]), cache)
        assert Decoder(model, cache).step(torch.tensor([7])).dtype == torch.bfloat16
