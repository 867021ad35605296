"""How far a policy has moved from its reference."""

from torch import Tensor


def kl_per_position(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """Return KL(policy ‖ reference) in nats, (…, V) and (…, V) → (…).

    DiffRO's Σ_k p_k log(p_k / q_k) over the whole speech vocabulary, specials included
    (arXiv 2507.05911), computed in fp32; differentiable in both.
    """
    log_p = logits.float().log_softmax(-1)
    log_q = reference_logits.float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
