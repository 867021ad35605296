"""Policies written as other software reads them (`rrpo export`), each with its model card."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from rrpo.codec_identity import codec_name
from rrpo.errors import UserError
from rrpo.files import require_empty
from rrpo.loading import MINI, load_policy
from rrpo.model_card import draft_card, write_card
from rrpo.policy import SpeechTokenLM, cosyvoice
from rrpo.policy.cosyvoice_text import read_tokenizer
from rrpo.policy.precision import Precision, parse_precision
from rrpo.policy.weight_files import EVERY
from rrpo.provenance import Provenance, trace, unfinished

FORMS = ("cosyvoice2", "cosyvoice3", "hf")


@dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes:
        policy: the policy.
        card: where its model card is.
        notes: what whoever exports is to be told, a line each.
    """

    policy: SpeechTokenLM
    card: Path
    notes: list[str]


def export(
    run: Path, to: str, out: Path, model: Path | None = None, precision: str | None = None
) -> Export:
    """Write a policy as CosyVoice's llm.pt, or as upstream's GRPO recipe reads it.

    Args:
        run: folder of a policy.
        to: "cosyvoice2", "cosyvoice3" or "hf".
        out: folder to write.
        model: CosyVoice model folder, whose tokenizer `hf` needs.
        precision: "float32", "bfloat16" or "float16"; None: that of the file the policy began from.

    Raises:
        UserError: the form or the precision is unknown, the policy is of another version or of the
            mini world, a weight is no number in that precision, or the folder is taken or cannot be
            written.
    """
    if to not in FORMS:
        raise UserError(f"unknown form {to!r}: choose cosyvoice2, cosyvoice3 or hf")
    chosen: Precision | None = None if precision is None else parse_precision(precision)
    if to == "hf" and model is None:
        raise UserError("--to hf needs CosyVoice's tokenizer: name its folder with --model")
    policy = load_policy(run)
    if codec_name(policy.config.codec) == MINI:
        raise UserError(
            f"{run} is a policy of the mini world, whose tokens and texts CosyVoice does not know: "
            "export one that began with a CosyVoice model"
        )
    version, there = policy.config.version, out.exists()
    made = trace(run)
    card = draft_card(run, policy, to, chosen or policy.config.precision, made)
    if to == "hf":
        assert model is not None
        require_empty(out)  # such a folder is read before an llm.pt beside it
        cosyvoice.save_hugging_face(policy, read_tokenizer(model, version), out, chosen)
        files = sorted(path for path in out.iterdir() if path.is_file())
    elif to != f"cosyvoice{version}":
        raise UserError(
            f"{run} has the layout of CosyVoice{version}: export it with --to cosyvoice{version}"
        )
    elif there and (found := [one for one in EVERY if (out / one).exists()]):
        raise UserError(f"{out / found[0]} is there already: name another --out or move it away")
    else:
        cosyvoice.save(policy, out / "llm.pt", chosen)
        files = [out / "llm.pt"]
    try:
        return Export(policy, write_card(card, files, out), _notes(made))
    except UserError:
        for file in files:  # so that a second call finds the folder as the first did
            file.unlink(missing_ok=True)
        if not there:
            shutil.rmtree(out, ignore_errors=True)
        raise


def _notes(made: Provenance) -> list[str]:
    """Return a line for each training that is not finished or not known."""
    said = {one.place: one.lost or unfinished(one) for one in made.stages}
    return [f"note: {place}: {why}" for place, why in said.items() if why]
