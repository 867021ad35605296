"""The second act of the demo: what policies say that hacked a reward model.

They are of `rrpo study planted`, whose trainings take hours: bundled are the tokens of a few
sentences, which are spoken here, and the figures of all seeds.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from rrpo.audio import write
from rrpo.evaluate.artifacts import detect
from rrpo.files import write_json
from rrpo.mini.world import World
from rrpo.report.hacked import FILE

ASSET = "hacked.json"


def bundled() -> dict[str, Any]:
    """Read what `scripts/hacked_sounds.py` wrote.

    That is what is told, the study's command, the codec, the sentences ("texts"), and of each
    policy ("acts") a title, its figures in words, and the tokens of each sentence.
    """
    text = (files("rrpo.mini") / "assets" / ASSET).read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def write_second_act(folder: Path, world: World) -> None:
    """Write the sounds and what the page says of them, if they are not there.

    A world with another codec has none: the tokens would be other sounds.
    """
    found = bundled()
    if (folder / FILE).is_file() or world.codec_identity != found["codec"]:
        return
    codec = world.codec()
    for number, act in enumerate(found["acts"]):
        act["sounds"] = []
        for place, tokens in enumerate(act.pop("tokens")):
            sound = codec.decode(torch.tensor(tokens))
            name = f"hacked/{number}-{place}.wav"
            write(folder / name, sound)
            marks = [vars(one) for one in detect(sound)]
            act["sounds"].append({"wav": name, "artifacts": marks})
    write_json(folder / FILE, found)
