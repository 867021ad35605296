"""AdamW is torch's to the bit, with its states and its groups."""

import torch

from rrpo.optimizer import AdamW


def losses_of(kind: type[torch.optim.Optimizer]) -> tuple[list[float], dict[str, object]]:
    """Fit a line in ten steps, in the middle of which the state is read again by another one."""
    torch.manual_seed(0)
    model, x = torch.nn.Linear(3, 1), torch.randn(20, 3)
    losses: list[float] = []

    def made() -> torch.optim.Optimizer:
        optimizer = kind([model.weight], lr=0.1, weight_decay=0.1)  # type: ignore[call-arg]
        optimizer.add_param_group({"params": [model.bias], "weight_decay": 0.0})
        return optimizer

    def closure() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = (model(x) - x.prod(1, keepdim=True)).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        return losses[-1]

    optimizer = made()
    for step in range(10):
        if step == 5:
            kept = optimizer.state_dict()
            optimizer = made()
            optimizer.load_state_dict(kept)
        if step % 2:
            closure()
            optimizer.step()
        else:
            assert optimizer.step(closure) == losses[-1]
    return losses, optimizer.state_dict()


def test_it_is_torchs() -> None:
    ours, theirs = losses_of(AdamW), losses_of(torch.optim.AdamW)
    assert ours[0] == theirs[0]
    torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=0)
    assert ours[0][-1] < ours[0][0]
