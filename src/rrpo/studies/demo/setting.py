"""What the stages of a demo share: its plan and folder, its world and judges, and their seconds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rrpo import policy
from rrpo.checkpoint import write_json
from rrpo.data.shards import Utterance
from rrpo.evaluate.panel import Judges
from rrpo.mini.codec import MiniCodec
from rrpo.mini.world import World
from rrpo.policy import SpeechTokenLM
from rrpo.speaking.mini import unseen_utterances
from rrpo.studies.demo.plan import SYSTEMS, Plan


@dataclass
class Demo:
    """What the stages share."""

    out: Path
    seed: int
    plan: Plan
    world: World
    codec: MiniCodec
    judges: Judges
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds of a stage, over all the times it was taken up."""
        began = time.monotonic()
        try:
            yield
        finally:
            spent = self.seconds.get(name, 0.0) + time.monotonic() - began
            self.seconds[name] = round(spent, 2)
            write_json(self.out / "seconds.json", self.seconds)

    def folder_of(self, name: str) -> Path:
        """Return the run of a system; the best of several utterances are SFT's."""
        return self.out / "systems" / ("sft" if SYSTEMS[name].method == "best_of" else name)

    def start_of(self, name: str) -> SpeechTokenLM:
        """Load what a system starts from, which is its reference, too."""
        if SYSTEMS[name].start == "base":
            return self.world.policy()
        return policy.load(self.folder_of("sft"))

    def unseen(self, sentences: int) -> list[Utterance]:
        """Return what the systems are asked to say: other sentences for every seed."""
        return unseen_utterances(self.world, sentences, self.seed * self.plan.sentences)
