"""What supervised fine-tuning holds out."""

import torch

from rrpo.objectives.sft import hold_out
from rrpo.policy.layout import Example, Prompt


def test_a_text_is_held_out_however_it_is_spelt() -> None:
    """Another case, a blank or a stop makes the same ids, so it would be trained on."""
    spelt = ("{}", "{}.", "  {} ", "{}!")
    ids = torch.tensor([1])
    examples = [
        Example(Prompt(form.format(text), "happy", ids, ids), ids)
        for text in ("The train leaves", "A door opens", "THE ROAD IS LONG", "天气很好", "…")
        for form in spelt
    ]
    trained, held = hold_out(examples, 0.4, 0)
    assert len(trained) + len(held) == len(examples) and len(held) >= len(spelt)

    def words(rows: list[Example]) -> set[str]:
        return {"".join(filter(str.isalnum, row.prompt.text.lower())) for row in rows} - {""}

    assert words(held) and not words(held) & words(list(trained))
