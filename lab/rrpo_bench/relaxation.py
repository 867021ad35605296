"""The chunked pass that training runs against the dense one: seconds and memory."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from rrpo.choices import Logits, choices
from rrpo.codec_identity import SPEECH_CODES
from rrpo.interval import exactly
from rrpo.policy.divergence import kl_per_position
from rrpo.relax import relax
from rrpo.sampling import Relaxation
from rrpo_bench.measure import Measurement, compare, measurement

FORMS = ("chunked", "dense")


def measure(
    device: torch.device, counts: tuple[int, ...] = (1000, 4000, 16000)
) -> Iterator[Measurement]:
    """Measure the chunked pass against the dense one: time, and memory beyond its inputs."""
    for count in counts:
        chunked, dense = (_relaxed(form, count, device) for form in FORMS)
        unit = f"× the seconds of the dense pass, {count} positions of {SPEECH_CODES + 3} ids"
        yield compare(f"relaxation/{count}/time", chunked, dense, unit, device, repeats=3)[0]
        peaks = [peak_memory(form, count, device) for form in FORMS]
        ratio = peaks[0] / peaks[1]
        unit = f"× the memory of the dense pass ({peaks[0]:.0f} of {peaks[1]:.0f} MB)"
        name = f"relaxation/{count}/memory"
        yield measurement(name, exactly(ratio), unit, device)


def _relaxed(form: str, count: int, device: torch.device, width: int = 256) -> Callable[[], None]:
    """Return one pass forward and backward: KL, log-probabilities, relaxed tokens."""
    generator = torch.Generator().manual_seed(0)
    rows = SPEECH_CODES + 3

    def random(*shape: int) -> Tensor:
        return (torch.randn(*shape, generator=generator) * 0.1).to(device)

    hidden, weight = random(count, width).requires_grad_(), random(rows, width).requires_grad_()
    states, layer = random(count, width), random(rows, width)
    reference = Logits(states, layer)
    table, tokens = random(SPEECH_CODES, 128), torch.randint(SPEECH_CODES, (count,)).to(device)
    upstream = random(count, 128)

    def chunked() -> None:
        chosen = Relaxation(table, "conditional_gumbel", 1.0, 0)
        found = choices(Logits(hidden, weight), tokens, SPEECH_CODES, None, None, reference, chosen)
        value = (found.embeddings * upstream).sum() + found.kl.mean() + found.log_probability.mean()
        torch.autograd.backward(value)

    def dense() -> None:
        logits = hidden @ weight.T
        kl = kl_per_position(logits, states @ layer.T)
        chosen = logits.log_softmax(-1).gather(1, tokens[:, None])
        theta = logits[:, :SPEECH_CODES]
        embeddings = relax(theta, tokens, table, generator=torch.Generator().manual_seed(0))
        torch.autograd.backward((embeddings * upstream).sum() + kl.mean() + chosen.mean())

    return {"chunked": chunked, "dense": dense}[form]


def peak_memory(form: str, count: int, device: torch.device) -> float:
    """Return the megabytes one pass takes beyond its inputs, on the CPU in a process of its own."""
    if device.type == "cuda":
        action = _relaxed(form, count, device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    command = [sys.executable, "-m", "rrpo_bench.relaxation", form, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _print_peak(form: str, count: int) -> None:
    """Print how far one pass raises this process' resident memory at its peak, in megabytes."""
    _relaxed(form, 8, torch.device("cpu"))()  # the libraries' own buffers
    action = _relaxed(form, count, torch.device("cpu"))
    # Linux: 5 sets the peak back to what is resident now; `getrusage` keeps the parent's peak.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    action()
    print((_peak() - before) / 1e3)


def _peak() -> float:
    """Return the peak of resident memory in kilobytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    _print_peak(sys.argv[1], int(sys.argv[2]))
