"""What a policy is trained against: a reward that is differentiable in the speech tokens.

`rrpo.reward.differentiable` says what any reward offers; `Reward` is that of frozen reward models.

The emotion's term is −L_ser (RRPO, arXiv 2512.04552) or its log-posterior (DiffRO, arXiv
2507.05911). The other terms are log-likelihoods of what was asked for: the text, the voice, and
speech that is neither degraded nor has clicks.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from rrpo.emotions import emotion_index
from rrpo.errors import UserError
from rrpo.policy.layout import Prompt
from rrpo.reward.content import characters
from rrpo.reward.model import RewardModel
from rrpo.reward.regularize import robust_reward

MAIN_VOICE = "main"
"""Class of the speaker task that a prompt without a speaker asks for."""
WANTED = {"quality": "clean", "event": "none"}
"""Classes that are wanted whatever the prompt."""
TERMS = ("emotion", "content", "speaker", *WANTED)
Form = Literal["robust", "log_posterior"]


class Reward:
    """A `DifferentiableReward`: weighted terms, each of the reward models that have its head.

    Several that have it are an ensemble, whose term is a lower confidence bound: mean − `caution` ·
    standard deviation over its members, so that what only some of them like is worth little (Coste
    et al. 2024). Where a detector is given, what is detected is from detectors alone.
    """

    def __init__(
        self,
        models: Sequence[RewardModel],
        weights: Mapping[str, float] | None = None,
        caution: float = 1.0,
        bound: float | None = None,
        form: Form = "robust",
        content_gate: float | None = None,
        event_odds: float = 1.0,
    ) -> None:
        """Freeze the models.

        Args:
            weights: of the terms, by default the emotion alone.
            caution: of an ensemble, see above.
            bound: b of the shaping b · tanh(r / b) of each model's term r, which saturates at −b.
                Of an ensemble that is before the caution. None: no shaping.
            form: of the emotion's term: "robust" is −L_ser with the constants each model was
                fine-tuned with (a plain one gives its log-posterior), "log_posterior" is
                log p(emotion asked for).
            content_gate: nats per symbol. Where the content's term, before any shaping, lies below,
                that of the emotion is at most that of chance, and its gradient zero. None: no
                gate.
            event_odds: by how much likelier than in a detector's data a sound is taken to be
                (`log_without`).

        Raises:
            UserError: there is no model or no term, a model that has none of the terms, a term that
                no model has a head for, a gate or odds without the terms they need, or models that
                know different emotions.
        """
        if not models:
            raise UserError("no reward model: name at least one")
        self.weights = dict(weights or {"emotion": 1.0})
        told = [_terms_of(model, models) for model in models]
        self.members = {
            term: [index for index, terms in enumerate(told) if term in terms]
            for term in self.weights
        }
        for term, members in self.members.items():
            if term not in TERMS:
                raise UserError(f"unknown reward {term!r}: choose from {', '.join(TERMS)}")
            if not members:
                raise UserError(
                    f"no reward model has a head for {term!r}: name one that has, or set rewards "
                    "without it, such as rewards={emotion: 2.0}"
                )
        _require_shaped(self.weights, content_gate, event_odds)
        _require_used(told, self.weights)
        known = [models[index].classes() for index in self.members.get("emotion", [])]
        self.emotions = known[0] if known else None
        for one in known:
            if one != known[0]:
                raise UserError(f"an ensemble of different emotions: {known[0]} and {one}")
        self.models = [model.eval().requires_grad_(False) for model in models]
        self.caution, self.bound, self.form = caution, bound, form
        self.content_gate, self.event_odds = content_gate, event_odds

    @property
    def table(self) -> Tensor:
        """The embeddings (V, E) that tokens are read through: the members' tables side by side."""
        if len(self.models) == 1:
            return self.models[0].table
        return torch.cat([model.table for model in self.models], dim=1)

    def to(self, device: torch.device) -> None:
        """Bring the models to a device."""
        for model in self.models:
            model.to(device)

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Refuse prompts that ask for what the reward does not know.

        Raises:
            UserError: its emotion or speaker is unknown, or a content head cannot read its text.
        """
        for prompt in prompts:
            if self.emotions is not None:
                emotion_index(prompt.emotion, self.emotions)
            for index in self.members.get("speaker", []):
                _class_index(self.models[index], "speaker", prompt)
            for index in self.members.get("content", []):
                _check_text(self.models[index], prompt)

    def terms(
        self, embeddings: Tensor, mask: Tensor, prompts: Sequence[Prompt]
    ) -> dict[str, Tensor]:
        """Return each term (B,) in nats before its weight, with gradient to the embeddings.

        With a gate there is one more, without a weight: "gated", 1 where the content lies below.

        Args:
            embeddings: (B, T, E), rows of `table`.
            mask: (B, T) bool, true at valid tokens; at least one a row.
            prompts: B, what was asked for.

        """
        widths = [model.table.shape[1] for model in self.models]
        parts = torch.split(embeddings, widths, dim=-1)
        hidden = [model.encode(part, mask) for model, part in zip(self.models, parts, strict=True)]
        each = {
            term: torch.stack(
                [self._term(self.models[i], term, hidden[i], mask, prompts) for i in members]
            )
            for term, members in self.members.items()
        }
        found = {term: self._joined(values) for term, values in each.items()}
        if self.content_gate is not None:
            # As it is measured: the shaped content never lies below −b.
            passed = self._joined(each["content"].detach(), shaped=False) >= self.content_gate
            chance = found["emotion"].detach().minimum(self._chance().to(mask.device))
            found["emotion"] = torch.where(passed, found["emotion"], chance)
            found["gated"] = (~passed).float()
        return found

    def _term(
        self,
        model: RewardModel,
        term: str,
        hidden: Tensor,
        mask: Tensor,
        prompts: Sequence[Prompt],
    ) -> Tensor:
        """Return one model's value (B,) of one term."""
        if term == "content":
            said = [_said(model, one) for one in prompts]
            return model.content_log_likelihood(hidden, mask, said)
        asked = torch.tensor(
            [_class_index(model, term, one) for one in prompts], device=hidden.device
        )
        if term == "emotion" and self.form == "robust":
            return robust_reward(model, hidden, mask, asked)
        logits = model.classify(model.pool(hidden, mask, term), term)
        found = logits.log_softmax(-1).gather(1, asked[:, None])[:, 0]
        return log_without(found, self.event_odds) if term == "event" else found

    def _joined(self, each: Tensor, shaped: bool = True) -> Tensor:
        """Return a term (B,) of what each of M members says (M, B): shaped, then with caution."""
        if shaped and self.bound is not None:
            each = self.bound * (each / self.bound).tanh()
        if len(each) == 1:
            return each[0]
        return each.mean(0) - self.caution * each.std(0, unbiased=False)

    def _chance(self) -> Tensor:
        """Return the emotion's term (1,) where no emotion is likelier than another.

        There every cross-entropy is log K; that at h' + delta, of the robust form, is at least so.
        """
        constants = [self.models[index].config.loss for index in self.members["emotion"]]
        robust = float(self.form == "robust")
        sums = torch.tensor([[1.0 + robust * one.adversarial_weight] for one in constants])
        return self._joined(-sums * math.log(len(self.emotions or ())))


def log_without(log_none: Tensor, odds: float) -> Tensor:
    """Return log p(none) (B,) where a sound is `odds` times likelier than a detector takes it for.

    By Bayes' rule p'(none) = p / (p + odds · (1 − p)). With odds above 1 the gradient is what it is
    with a weight that is so many times higher where p is near 1, and stays within the weight where
    speech is full of the sound: a weight that high drowns there all else that is rewarded.

    Args:
        log_none: log p(none) (B,), at most 0.
        odds: above 0; 1 changes nothing.

    Examples:
        >>> p = torch.tensor([0.9, 0.5, 0.1], requires_grad=True)
        >>> log_without(p.log(), 9.0).exp()
        tensor([0.5000, 0.1000, 0.0122], grad_fn=<ExpBackward0>)
    """
    if odds == 1.0:
        return log_none
    # log(1 − p) of a p that is 1 to the last digit is that of the next smaller one.
    log_some = (-torch.expm1(log_none)).clamp(min=torch.finfo(log_none.dtype).eps).log()
    return -torch.nn.functional.softplus(math.log(odds) + log_some - log_none)


def _require_shaped(
    weights: Mapping[str, float], content_gate: float | None, event_odds: float
) -> None:
    """Refuse a gate or odds without the terms that they shape, and odds that are none."""
    if content_gate is not None and not {"emotion", "content"} <= weights.keys():
        raise UserError("content_gate needs the rewards emotion and content: weigh both")
    if event_odds != 1.0 and "event" not in weights:
        raise UserError("event_odds needs the reward event: weigh it, or leave event_odds out")
    if not (0 < event_odds < math.inf):
        raise UserError(f"event_odds is {event_odds:g}: give a number above 0, such as 8")


def _require_used(told: Sequence[Sequence[str]], weights: Mapping[str, float]) -> None:
    """Refuse a reward model none of whose terms has a weight: it would be ignored."""
    given = ", ".join(f"{term}: {weight}" for term, weight in weights.items())
    for number, terms in enumerate(told, start=1):
        if not weights.keys() & terms:
            raise UserError(
                f"reward model {number} of {len(told)} has none of the terms that have a weight "
                f"({given}): leave it out, or weigh what it has ({', '.join(terms)}), such as "
                f"rewards={{{given}, {(terms or ['…'])[0]}: 1.0}}"
            )


def _terms_of(model: RewardModel, models: Sequence[RewardModel]) -> list[str]:
    """Return the terms that a model has a head for."""
    heads = {*model.config.tasks} | ({"content"} if model.content is not None else set())
    if any(one.is_detector for one in models) and not model.is_detector:
        heads -= {"event"}  # it was trained on other sounds than the detector's
    return [term for term in TERMS if term in heads]


def _class_index(model: RewardModel, task: str, prompt: Prompt) -> int:
    classes = model.classes(task)
    if task == "emotion":
        wanted = prompt.emotion
    else:
        wanted = WANTED.get(task) or prompt.speaker or MAIN_VOICE
    if wanted in classes:
        return classes.index(wanted)
    if task == "emotion":
        return emotion_index(wanted, classes)  # in other capitals, or an error
    raise UserError(f"the reward model knows no {task} {wanted!r}: {', '.join(classes)}")


def _said(model: RewardModel, prompt: Prompt) -> Tensor:
    """Return the text of a prompt as symbols (L,) int64 of a model's content head."""
    if model.config.text == "characters":
        return torch.tensor(characters(prompt.text), dtype=torch.int64)
    return prompt.text_ids


def _check_text(model: RewardModel, prompt: Prompt) -> None:
    """Refuse a prompt whose text a model's content head cannot read."""
    try:
        model.content_head().require(_said(model, prompt))
    except UserError as error:
        raise UserError(f"{prompt.text[:40]!r}: {error}") from None
