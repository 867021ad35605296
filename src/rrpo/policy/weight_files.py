"""Weight files of other software: which of a folder's hold the weights, and what they hold.

A file is known by its first bytes, not by its name. Nothing in it is executed.
"""

import pickletools
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

from rrpo.archive import refuse_archive
from rrpo.checkpoint import load_tensors
from rrpo.errors import UserError, shortened
from rrpo.files import read_json

WHOLE = ("model.safetensors", "pytorch_model.bin")
"""What `transformers` calls a model in one file; with `.index.json` after it, in shards."""
OWN = ("llm.pt", "llm.safetensors")
EVERY = (*OWN, *WHOLE, *(f"{name}.index.json" for name in WHOLE))
"""Names by which the weights in a folder are found."""
DEEPSPEED = "mp_rank_00_model_states.pt"
DISTRIBUTED = ".metadata"
"""What torch's distributed checkpoints have beside their parts."""
SHARD = re.compile(r"-[0-9]+-of-([0-9]+)\.(?:safetensors|bin)$")
FSDP = re.compile(r"model_world_size_[0-9]+_rank_[0-9]+\.pt$")
ZERO = re.compile(r"(?:.*zero_pp_rank_.*|mp_rank_(?!00_)[0-9]+_model_states)\.pt$")
HARMLESS = ("collections.OrderedDict", "torch._utils.", "torch.storage.", "torch.FloatStorage")
_NAME = r"[A-Za-z_]\w{0,60}(?:\.\w{1,60}){0,9}"
_CLASS = re.compile(r"(?:GLOBAL|[Uu]nsupported class) (\S{0,60}\w\S{0,60})")
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class WeightFiles:
    """What holds the weights.

    Attributes:
        folder: where its configuration and tokenizer would lie.
        files: one, or the shards.
        index: says which weight is in which shard; None: there is one file.
    """

    folder: Path
    files: tuple[Path, ...]
    index: Path | None = None

    @property
    def source(self) -> Path:
        """What a message names."""
        return self.index or self.files[0]


def locate(path: Path) -> WeightFiles:
    """Find the weights that a file or a folder stands for.

    Raises:
        UserError: there are none, they are parts that have to be joined first, or it cannot be
            told which of two are meant; the message says what to do.
    """
    if path.is_dir():
        return _in_folder(path)
    if not path.is_file():
        raise UserError(f"no such file: {path}: name a CosyVoice model folder or its llm.pt")
    if path.name.endswith(".index.json"):
        return _by_index(path)
    _refuse_part(path)
    return WeightFiles(path.parent, (path,))


def is_foreign(path: Path) -> bool:
    """Say whether a path holds, or looks as if it held, a policy that other software wrote."""
    if path.is_file():
        return True
    names = (*EVERY, "config.json", "adapter_config.json", DISTRIBUTED)
    if any((path / name).is_file() for name in names):
        return True
    return path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".safetensors") or (
        path.is_dir() and bool(_checkpoints(path))
    )


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in (".pt", ".pth", ".ckpt"))


def _in_folder(folder: Path) -> WeightFiles:
    """Take the Hugging Face form first, where its config.json is there, then upstream's."""
    merged = [found for name in WHOLE if (found := _whole(folder, name)) is not None]
    own = [WeightFiles(folder, (folder / name,)) for name in OWN if (folder / name).is_file()]
    if len(own) > 1:
        raise UserError(f"{folder} holds {' and '.join(OWN)}: name the one that is meant")
    first = merged if (folder / "config.json").is_file() else own
    for found in (*first, *own, *merged):
        return found
    if (folder / DEEPSPEED).is_file():
        for path in _checkpoints(folder):
            if not path.name.endswith("optim_states.pt"):
                _refuse_part(path)
        return WeightFiles(folder, (folder / DEEPSPEED,))
    if (folder / DISTRIBUTED).is_file():
        raise UserError(
            f"{folder} is a distributed checkpoint of torch: join its parts with "
            f"`python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} llm.pt`"
        )
    others = _checkpoints(folder)
    for path in others:
        _refuse_part(path)
    there = f" (or one of those there: {', '.join(p.name for p in others[:5])})" if others else ""
    raise UserError(
        f"no such file: {folder / OWN[0]}: name a CosyVoice model folder or its llm.pt{there}"
    )


def _whole(folder: Path, name: str) -> WeightFiles | None:
    whole, index = folder / name, folder / f"{name}.index.json"
    if whole.is_file() and index.is_file():
        raise UserError(
            f"{folder} has both {name} and {index.name}, which may be two models: "
            "name the one that is meant, or move the other away"
        )
    if index.is_file():
        return _by_index(index)
    return WeightFiles(folder, (whole,)) if whole.is_file() else None


def _by_index(index: Path) -> WeightFiles:
    names = sorted(set(_weight_map(index).values()))
    for name in names:
        if not (index.parent / name).is_file():
            raise UserError(
                f"{index.parent} lacks {name}, which {index.name} names: "
                "the copy is incomplete, copy the folder again"
            )
    return WeightFiles(index.parent, tuple(index.parent / name for name in names), index)


def _weight_map(index: Path) -> dict[str, str]:
    """Return name of a weight → name of its file, always a plain one beside the index."""
    content = read_json(index)
    weights = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not weights:
        raise UserError(f"{index} has no weight_map: copy it again")
    for name in weights.values():
        if not isinstance(name, str) or Path(name).name != name or "\0" in name:
            raise UserError(f"{index} names {name!r}, which is no file beside it: copy it again")
    return weights


def _refuse_part(file: Path) -> None:
    """Refuse a file that is a part of a checkpoint, with the command that joins them."""
    shard = SHARD.search(file.name)
    if shard and int(shard[1]) > 1:
        raise UserError(f"{file} is one of {int(shard[1])} shards: name its folder, {file.parent}")
    if FSDP.match(file.name):
        raise UserError(
            f"{file} is a shard of FSDP: join them with `python -m verl.model_merger merge "
            f"--backend fsdp --local_dir {file.parent} --target_dir MERGED` and name MERGED"
        )
    if ZERO.match(file.name):
        raise UserError(
            f"{file} is a shard of DeepSpeed: join them with its own "
            f"`python zero_to_fp32.py {file.parent} llm.pt` and name llm.pt"
        )


def read(found: WeightFiles) -> object:
    """Read what weight files hold: of safetensors and of shards a flat state dict.

    Raises:
        UserError: a file is damaged, is no checkpoint or would run code, or shards and index do
            not agree.
    """
    if found.index is None:
        return read_file(found.files[0])
    places, state = _weight_map(found.index), {}
    for file in found.files:
        part = read_file(file)
        if not isinstance(part, dict):
            raise UserError(f"{file} is no shard of a model: copy it again")
        for key, value in part.items():
            if places.get(key) != file.name:
                raise UserError(
                    f"{file} holds {key!r}, which {found.index.name} does not place there: "
                    "they belong to two models, copy the folder again"
                )
            state[key] = value
    for key, name in places.items():
        if key not in state:
            raise UserError(
                f"{found.folder / name} lacks {key}, which {found.index.name} places there: "
                "copy the folder again"
            )
    return state


def read_file(file: Path) -> object:
    """Read one file: a dict of tensors from safetensors, or what torch saved.

    Raises:
        UserError: it is damaged, no checkpoint, or holds what could run code.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): copy it again") from None
    if file.suffix == ".safetensors" or _is_safetensors(head, file.stat().st_size):
        return load_tensors(file)
    if head.startswith(b"version https://git-lfs"):
        raise UserError(f"{file} is a pointer of Git LFS: fetch the file with `git lfs pull`")
    if head.lstrip().startswith((b"<", b"{")):
        what = "a web page" if head.lstrip().startswith(b"<") else "JSON"
        raise UserError(f"{file} is {what} and no checkpoint: download it again, or name another")
    refuse_archive(file)
    if head.startswith(b"PK"):
        _check_sums(file)
    return _load(file)


def _is_safetensors(head: bytes, size: int) -> bool:
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8


def _check_sums(file: Path) -> None:
    """Compare the checksums in torch's archive, which torch itself does not read."""
    try:
        with zipfile.ZipFile(file) as archive:
            # `set_crc32_options(False)` writes zeros for them.
            summed = any(item.CRC for item in archive.infolist())
            damaged = archive.testzip() if summed else None
    except Exception as error:  # a damaged archive raises whatever its bytes lead to
        raise _damaged(file, error) from None
    if damaged is not None:
        raise UserError(f"{file} is damaged: {damaged} differs from its checksum, copy it again")


def _load(file: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on how to allow what is refused here
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its bytes lead to
        named = _CLASS.search(str(error))
        culprit = named[1] if named else _first_class(file)
        if culprit is not None:
            raise UserError(
                f"{file} holds more than tensors: {culprit}, which is not loaded, as it could run "
                "code: save the weights alone, torch.save(model.state_dict(), FILE)"
            ) from None
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> UserError:
    text = _ESCAPE.sub("", str(error)).partition("Please file an issue")[0]
    # Torch goes on with how to execute it all the same, or with what might have happened.
    for more in (" Re-running", " In PyTorch 2.6", " This is an internal", "Weights only load"):
        text = text.partition(more)[0]
    reason = shortened(text) or type(error).__name__
    return UserError(
        f"{file} is truncated or no checkpoint ({reason}): copy it again from a source you trust"
    )


def _first_class(file: Path) -> str | None:
    """Return the first class or function a plain pickle names, without running any of it."""
    with file.open("rb") as stream:
        data = stream.read(1 << 20)
    words: list[str] = []
    try:
        for operation, argument, _ in pickletools.genops(data):
            name = None
            if operation.name in ("GLOBAL", "INST"):
                name = str(argument).replace(" ", ".")
            elif operation.name == "STACK_GLOBAL" and len(words) > 1:
                name = ".".join(words[-2:])
            elif isinstance(argument, str):
                words.append(argument)
            if name is not None and not name.startswith(HARMLESS):
                return name if re.fullmatch(_NAME, name) else None
    except Exception:  # no pickle at all
        return None
    return None
