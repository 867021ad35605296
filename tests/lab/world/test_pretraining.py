"""The tables of pre-training: sums over digits, and plain again once folded."""

from pathlib import Path

import torch

from rrpo import policy
from rrpo.objectives.sft import SFTConfig
from rrpo.policy import LMConfig, SpeechTokenLM
from rrpo.policy.layout import Example, Prompt
from rrpo_world.pretraining import OWN, PretrainingObjective, folded, share_digits

CONFIG = LMConfig(
    text_vocabulary=9, hidden=16, layers=1, heads=2, key_value_heads=1, intermediate=24
)


def model() -> SpeechTokenLM:
    torch.manual_seed(0)
    return SpeechTokenLM(CONFIG)


def examples() -> list[Example]:
    ids = torch.tensor([1, 2])
    return [Example(Prompt("a b", "sad", ids, ids), torch.tensor([5, 6560, 5 + 243]))]


def test_a_row_is_its_own_vector_and_those_of_its_digits() -> None:
    before = model().head.weight.detach()
    lm = model()
    share_digits(lm)
    vectors = lm.head.parametrizations.weight[0].vectors.detach()
    # 5 = 2 + 1 * 3: digits 2, 1, 0, 0, …
    said = [2, 1, 0, 0, 0, 0, 0, 0]
    expected = OWN * before[5] + sum(vectors[3 * place + digit] for place, digit in enumerate(said))
    torch.testing.assert_close(lm.head.weight[5].detach(), expected)
    torch.testing.assert_close(lm.head.weight[6561:].detach(), OWN * before[6561:])


def test_folded_computes_the_same_and_is_plain() -> None:
    lm = model()
    share_digits(lm)
    plain = folded(lm)
    ids = torch.tensor([[0, 3, 9 + 5, 9 + 6000]])
    torch.testing.assert_close(plain(ids), lm(ids))
    assert plain.state_dict().keys() == model().state_dict().keys()


def test_a_step_teaches_codes_that_share_digits(tmp_path: Path) -> None:
    objective = PretrainingObjective(model(), examples(), SFTConfig(batch_size=1))
    before = folded(objective.model).speech_embedding.weight[6].clone()
    loss, _ = objective.loss(1, torch.Generator())
    torch.autograd.backward(loss)
    torch.optim.SGD(objective.model.parameters(), lr=1.0).step()
    objective.save(tmp_path)
    after = policy.load(tmp_path).speech_embedding.weight[6]
    # Code 6 is never read: all it learns comes through the digits it shares with code 5.
    assert float((after - before).abs().max()) > 1e-6
