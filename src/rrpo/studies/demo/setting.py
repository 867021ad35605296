"""What the stages of a demo share: its plan and folder, its world and judges."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from rrpo import policy, reward
from rrpo.data.shards import Utterance
from rrpo.evaluate.panel import Judges
from rrpo.mini.codec import MiniCodec
from rrpo.mini.world import World
from rrpo.policy import SpeechTokenLM
from rrpo.reward import RewardModel
from rrpo.speaking.mini import unseen_utterances
from rrpo.studies.demo.systems import PRETRAINED, SYSTEMS, Plan


@dataclass
class Demo:
    """What the stages share; what is large is loaded where it is first needed."""

    out: Path
    seed: int
    plan: Plan
    reward_names: tuple[str, ...]
    world: World

    @cached_property
    def codec(self) -> MiniCodec:
        """The world's codec."""
        return self.world.codec()

    @cached_property
    def judges(self) -> Judges:
        """What rates a system's speech in the end."""
        found = Judges.installed(self.world.judge())
        if self.plan.scorers is not None:
            chosen = {name: one for name, one in found.quality.items() if name in self.plan.scorers}
            found = replace(found, quality=chosen)
        return found

    def reward_model(self, name: str) -> RewardModel:
        """Load a reward model that is trained."""
        if name == PRETRAINED:
            return self.world.reward_model()
        return reward.load(self.out / "reward_models" / name)

    def reward_models(self) -> dict[str, RewardModel]:
        """Load all of them; only those that are trained already."""
        runs = self.out / "reward_models"
        return {
            name: self.reward_model(name)
            for name in self.reward_names
            if name == PRETRAINED or (runs / name / "results.json").is_file()
        }

    def policy(self, name: str) -> SpeechTokenLM | None:
        """Load a system; None is the reference, real tokens."""
        if name == "reference":
            return None
        return self.world.policy() if name == "base" else policy.load(self.folder_of(name))

    def folder_of(self, name: str) -> Path:
        """Return the run of a system; the best of several utterances are of its start."""
        system = SYSTEMS[name]
        return self.out / "systems" / (system.start if system.method == "best_of" else name)

    def start_of(self, name: str) -> SpeechTokenLM:
        """Load what a system starts from, which is its reference, too."""
        start = SYSTEMS[name].start
        return self.world.policy() if start == "base" else policy.load(self.folder_of(start))

    def unseen(self, sentences: int) -> list[Utterance]:
        """Return what the systems are asked to say: other sentences for every seed."""
        rows = unseen_utterances(self.world, sentences, self.seed * self.plan.sentences)
        return [row for row in rows if row.emotion in self.plan.emotions]
