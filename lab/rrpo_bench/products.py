"""The matrix products of a DiffRO step and nothing else: what no implementation in torch can avoid.

Counted are the products with weights. Attention's own products, norms, softmax, draws and the
optimizer are not: they are what the ratio to this floor measures.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rrpo.policy import SpeechTokenLM
from rrpo.reward import RewardModel

FORWARD, INPUT, WEIGHT = "forward", "input", "weight"
"""x Wᵀ, and of its gradient g the products g W and gᵀ x."""


@dataclass(frozen=True)
class Product:
    """One weight's products.

    Attributes:
        rows: N, of what is multiplied, (N, in).
        weight: (out, in).
        kinds: of `FORWARD`, `INPUT` and `WEIGHT`.
    """

    rows: int
    weight: Tensor
    kinds: tuple[str, ...] = (FORWARD,)

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * self.weight.numel() * len(self.kinds)


def gigaflops(products: Sequence[Product]) -> float:
    """Return how many billions of operations products need."""
    return sum(product.flops for product in products) / 1e9


def runner(products: Sequence[Product]) -> Callable[[], None]:
    """Return what does all of them, one after the other, on the weights themselves."""
    inputs = {
        (one.rows, size): one.weight.new_ones(one.rows, size)
        for one in products
        for size in one.weight.shape
    }

    @torch.no_grad()
    def run() -> None:
        for one in products:
            outer, inner = one.weight.shape
            x, gradient = inputs[one.rows, inner], inputs[one.rows, outer]
            if FORWARD in one.kinds:
                x @ one.weight.T
            if INPUT in one.kinds:
                gradient @ one.weight
            if WEIGHT in one.kinds:
                gradient.T @ x

    return run


def drawing(model: SpeechTokenLM, batch: int, prompt: int, speech: int) -> list[Product]:
    """Return those of drawing `speech` tokens for each of B prompts of one length."""
    body = [Product(batch * prompt, weight.detach()) for weight in _weights(model.layers)]
    head = Product(batch, model.head.weight.detach())
    token = [*(Product(batch, one.weight) for one in body), head]
    return [*body, head, *(one for _ in range(speech - 1) for one in token)]


def teacher_forced(
    model: SpeechTokenLM, reward: RewardModel, batch: int, prompt: int, speech: int
) -> list[Product]:
    """Return those of a pass with gradient, of its reference, and of the reward.

    The output layer is read at the speech and its end alone; a frozen reward model needs no
    gradient of its weights.
    """
    every, kept = batch * (prompt + speech), batch * (speech + 1)
    trained, frozen = (FORWARD, INPUT, WEIGHT), (FORWARD, INPUT)
    made = []
    for kinds in (trained, (FORWARD,)):  # the policy, its reference
        made += [Product(every, weight.detach(), kinds) for weight in _weights(model.layers)]
        made.append(Product(kept, model.head.weight.detach(), kinds))
    encoder = _weights(reward.encoder)
    return made + [Product(batch * speech, weight.detach(), frozen) for weight in encoder]


def _weights(module: nn.Module) -> Iterator[Tensor]:
    for part in module.modules():
        if isinstance(part, nn.Linear):
            yield part.weight
