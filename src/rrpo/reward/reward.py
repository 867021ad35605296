"""What frozen reward models pay for speech, differentiable in the tokens' embeddings.

Each term is a log-likelihood of what was asked for: the emotion, the text, the voice, and speech
that is neither spoilt nor struck by clicks (the multi-task reward of arXiv 2507.05911).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rrpo.emotions import emotion_index
from rrpo.errors import UserError
from rrpo.policy.examples import Prompt
from rrpo.reward.model import RewardModel
from rrpo.tokens import length_mask, pad

MAIN_VOICE = "main"
"""Class of the speaker task that a prompt without a speaker asks for."""
WANTED = {"quality": "clean", "event": "none"}
"""Classes that are wanted whatever the prompt."""
TERMS = ("emotion", "content", "speaker", *WANTED)


class Reward:
    """A weighted sum of terms, each paid by those of the reward models that have its head.

    Several that have it are an ensemble, paid at a lower confidence bound: mean − `caution` ·
    standard deviation over its members, so that what only some of them like pays little (Coste et
    al. 2024).
    """

    def __init__(
        self,
        models: Sequence[RewardModel],
        weights: Mapping[str, float] | None = None,
        caution: float = 1.0,
        bound: float | None = None,
    ) -> None:
        """Freeze the models.

        Args:
            weights: of the terms, by default the emotion alone.
            caution: of an ensemble, see above.
            bound: b of the shaping b · tanh(r / b) of what each model pays, which is r near zero
                and never below −b: what is hopeless pays no less for becoming worse. Of an
                ensemble that is before the caution. None: no shaping.

        Raises:
            UserError: there is no model or no term, a term that no model can pay, or models that
                know different emotions.
        """
        if not models:
            raise UserError("no reward model: name at least one")
        self.weights = dict(weights or {"emotion": 1.0})
        self.members = {
            term: [index for index, model in enumerate(models) if _pays(model, term)]
            for term in self.weights
        }
        for term, members in self.members.items():
            if term not in TERMS:
                raise UserError(f"unknown reward {term!r}: choose from {', '.join(TERMS)}")
            if not members:
                raise UserError(f"no reward model has a head for {term!r}: name one that has")
        known = [models[index].classes() for index in self.members.get("emotion", [])]
        if any(emotions != known[0] for emotions in known):
            raise UserError(
                f"the reward models of an ensemble know different emotions: {known[0]} and "
                + str(next(emotions for emotions in known if emotions != known[0]))
            )
        self.emotions = known[0] if known else None
        self.models = [model.eval().requires_grad_(False) for model in models]
        self.caution, self.bound = caution, bound

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

    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt that asks for what the reward does not know.

        Raises:
            UserError: its emotion or its speaker is unknown.
        """
        if self.emotions is not None:
            emotion_index(prompt.emotion, self.emotions)
        for index in self.members.get("speaker", []):
            _class_index(self.models[index], "speaker", prompt)

    def terms(
        self, embeddings: Tensor, mask: Tensor, prompts: Sequence[Prompt]
    ) -> dict[str, Tensor]:
        """Return each term (B,) in nats before its weight, with gradient to the embeddings.

        Args:
            embeddings: (B, T, E), rows of `table`.
            mask: (B, T) bool, true at valid tokens; at least one a row.
            prompts: B, what was asked for.
        """
        widths = [model.table.shape[1] for model in self.models]
        parts = torch.split(embeddings, widths, dim=-1)
        used = {index for members in self.members.values() for index in members}
        hidden = {index: self.models[index].encode(parts[index], mask) for index in sorted(used)}
        found = {}
        for term, members in self.members.items():
            paid = torch.stack(
                [_term(self.models[index], term, hidden[index], mask, prompts) for index in members]
            )
            if self.bound is not None:
                paid = self.bound * (paid / self.bound).tanh()
            value = paid.mean(0)
            if len(members) > 1:
                value = value - self.caution * paid.std(0, unbiased=False)
            found[term] = value
        return found

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum (B,) of terms."""
        return torch.stack([self.weights[term] * value for term, value in terms.items()]).sum(0)

    def __call__(self, embeddings: Tensor, mask: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Return the weighted sum of all terms (B,), with gradient; arguments as of `terms`."""
        return self.total(self.terms(embeddings, mask, prompts))

    @torch.no_grad()
    def score(self, speech: Sequence[Tensor], prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """Return the terms (B,) of tokens (T_b,), T_b ≥ 1, without gradient."""
        table = self.table
        lengths = torch.tensor([tokens.numel() for tokens in speech], device=table.device)
        return self.terms(table[pad(speech).to(table.device)], length_mask(lengths), prompts)


def _pays(model: RewardModel, term: str) -> bool:
    return model.content is not None if term == "content" else term in model.config.tasks


def _class_index(model: RewardModel, task: str, prompt: Prompt) -> int:
    classes = model.classes(task)
    if task == "emotion":
        return emotion_index(prompt.emotion, classes)
    wanted = WANTED.get(task) or prompt.speaker or MAIN_VOICE
    if wanted not in classes:
        raise UserError(f"the reward model knows no {task} {wanted!r}: {', '.join(classes)}")
    return classes.index(wanted)


def _term(
    model: RewardModel, term: str, hidden: Tensor, mask: Tensor, prompts: Sequence[Prompt]
) -> Tensor:
    """Return what one model pays (B,) for one term."""
    if term == "content":
        return model.content_log_likelihood(hidden, mask, [prompt.text_ids for prompt in prompts])
    asked = torch.tensor([_class_index(model, term, prompt) for prompt in prompts])
    logits = model.classify(model.pool(hidden, mask, term), term)
    return logits.log_softmax(-1).gather(1, asked.to(logits.device)[:, None])[:, 0]
