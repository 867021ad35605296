"""The bundled world: where its assets lie, that they are whole, and how to load them."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from rrpo import policy, reward
from rrpo.codec_identity import identity
from rrpo.data.shards import Utterance, read_shard
from rrpo.errors import UserError
from rrpo.evaluate.judge import EmotionJudge
from rrpo.files import read_json, sha256, write_json
from rrpo.mini.codec import MiniCodec
from rrpo.mini.text import PhoneTokenizer
from rrpo.policy import SpeechTokenLM
from rrpo.reward import RewardModel

ASSETS = Path(__file__).parent / "assets" / "world"
HASHES = "sha256.json"
MINI = "mini"
"""Name of the mini codec."""
BUNDLED = (MINI, f"{MINI}-tasks")
"""Names of the models that come with the world; its policy and its model of emotion share one."""
TEST_SETS = {"same": "test_same", "altered": "test_altered", "mandarin": "test_mandarin"}
"""Name in results → shard: the same voice and unseen text; altered voices, half of them in noise,
weak and strong; another language (a world made without the Mandarin voice lacks it)."""


@lru_cache(maxsize=16)
def _rows(path: Path, _size: int, _modified: int) -> tuple[Utterance, ...]:
    """Read a shard that is asked for by every part of a study, once while its file is the same."""
    return tuple(read_shard(path))


@dataclass(frozen=True)
class World:
    """A codec, a base policy, a pre-trained reward model, a judge and token shards in a folder."""

    folder: Path = ASSETS

    def check(self) -> None:
        """Compare every asset with its pinned SHA-256.

        Raises:
            UserError: it is no world, or a file is missing or differs.
        """
        again = "install rrpo" if self.folder == ASSETS else "make the world"
        path = self.folder / HASHES
        pinned = read_json(path) if path.is_file() else None
        if not isinstance(pinned, dict):
            raise UserError(
                f"{self.folder} is no world: name the folder `recipe/world` of a "
                "`rrpo demo --from-scratch`"
            )
        for name, expected in pinned.items():
            path = self.folder / name
            if not path.is_file():
                raise UserError(f"the asset {path} is missing: {again} again")
            if sha256(path) != expected:
                raise UserError(f"the asset {path} does not have its SHA-256: {again} again")

    @property
    def seed(self) -> int:
        """Seed of the recipe that made it; 0 where it does not say."""
        path = self.folder / "recipe.json"
        return int(read_json(path).get("seed", 0)) if path.is_file() else 0

    def pin(self) -> None:
        """Write the SHA-256 of every asset in the folder."""
        # `done.json` is the recipe's own, there when a world is packed a second time.
        others = (HASHES, "done.json")
        files = sorted(
            path for path in self.folder.rglob("*") if path.is_file() and path.name not in others
        )
        write_json(
            self.folder / HASHES,
            {path.relative_to(self.folder).as_posix(): sha256(path) for path in files},
        )

    @cached_property
    def tokenizer(self) -> PhoneTokenizer:
        """Text and emotions as ids of the base policy."""
        return PhoneTokenizer()

    @cached_property
    def codec_identity(self) -> str:
        """Identity of the codec (`rrpo.codec_identity`)."""
        return identity(MINI, sha256(self.folder / "codec" / "model.safetensors"))

    def codec(self) -> MiniCodec:
        """Load the codec."""
        return MiniCodec.load(self.folder / "codec")

    def policy(self) -> SpeechTokenLM:
        """Load the base policy."""
        return policy.load(self.folder / "policy")

    def reward_model(self) -> RewardModel:
        """Load the pre-trained reward model."""
        return reward.load(self.folder / "reward")

    def task_model(self) -> RewardModel:
        """Load the reward model of the other tasks: content, speaker, quality, events."""
        return reward.load(self.folder / "tasks")

    def judge(self) -> EmotionJudge:
        """Load the emotion judge."""
        return EmotionJudge.load(self.folder / "judge")

    def tests(self) -> dict[str, list[Utterance]]:
        """Read the reward model's test sets, by their names in results."""
        return {
            name: self.shard(shard)
            for name, shard in TEST_SETS.items()
            if self._path(shard).exists()
        }

    def shard(self, name: str) -> list[Utterance]:
        """Read a token shard.

        That is finetune, one of `TEST_SETS`, or finetune_… or test_… of a voice in
        `rrpo.mini.text.SPEAKERS`.
        """
        path = self._path(name)
        if not path.is_file():
            return read_shard(path)
        found = path.stat()
        return list(_rows(path.absolute(), found.st_size, found.st_mtime_ns))

    def _path(self, shard: str) -> Path:
        return self.folder / "shards" / f"{shard}.parquet"
