"""AdamW, without the two seconds that torch's takes to load torch's compiler."""

from inspect import unwrap
from typing import Any

import torch
from torch.optim import Optimizer


class AdamW(torch.optim.AdamW):
    """AdamW as torch has it, to the bit.

    Torch wraps these methods for models that `torch.compile` has compiled, and the wrappers load
    the compiler whether there is such a model or not. Here there is none.
    """

    add_param_group = unwrap(Optimizer.add_param_group)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)
    zero_grad = unwrap(Optimizer.zero_grad)

    @torch.no_grad()
    def step(self, *options: Any, **named: Any) -> Any:
        """Take a step, which needs no gradient of its own; as of torch's AdamW."""
        return unwrap(torch.optim.AdamW.step)(self, *options, **named)
