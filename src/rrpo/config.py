"""Configurations: strict models filled from a YAML file and `section.key=value` options.

A configuration is a frozen `Strict` model. `load` fills one and turns every mistake into one line;
`dump` writes the resolved values; `require_same` compares with what an earlier run used.
"""

import difflib
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import pydantic
import yaml

from rrpo.errors import UserError
from rrpo.files import write_text
from rrpo.plain_yaml import Dumper, RepeatedKeyError, read_yaml, reason_of


class Strict(pydantic.BaseModel):
    """A configuration: unknown keys, wrong types, NaN and infinity are errors; it never changes."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False
    )


Config = TypeVar("Config", bound=Strict)
Settings = Mapping[str, object] | Sequence[str]
"""Settings by their dotted names, or as `--set` takes them."""


def load(
    kind: type[Config],
    path: Path | None,
    overrides: Sequence[str] = (),
    preset: Path | None = None,
) -> Config:
    """Fill a configuration from a preset, a YAML file and options, each over those before.

    Args:
        kind: the configuration to fill, such as `TrainConfig`.
        path: a YAML file; None starts from the defaults.
        overrides: options such as `train.steps=40`, applied in order; values are YAML.
        preset: a YAML file that is read before `path`.

    Raises:
        UserError: the file cannot be read, or a key or value is wrong; the line names the file or
            option, the dotted key, what was found and what is accepted.
    """
    values = _nested_defaults(kind)
    for file in (preset, path):
        values = values if file is None else _merge(values, read(file))
    for override in overrides:
        _apply(kind, values, override)
    return _validated(kind, values, path, overrides)


def as_overrides(settings: Settings) -> list[str]:
    """Return settings as `--set` takes them.

    Raises:
        UserError: a value is of a kind that no setting has.

    Examples:
        >>> as_overrides({"train.steps": 40}), as_overrides(["train.steps=40"])
        (['train.steps=40'], ['train.steps=40'])
    """
    if isinstance(settings, str):
        return [settings]
    if isinstance(settings, Mapping):
        return [f"{name}={json.dumps(one, default=_plain)}" for name, one in settings.items()]
    return list(settings)


def _plain(value: object) -> object:
    """Return a path as text and a number of numpy or torch as Python's."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise UserError(
        f"settings: {value!r} is of the kind {type(value).__name__}: give text, a number, a list "
        "or a dict"
    )


def parse(kind: type[Config], values: Mapping[str, Any], source: Path) -> Config:
    """Fill a configuration from values that a file of ours stored.

    Raises:
        UserError: a key or value is wrong; the line names the file and the dotted key.
    """
    return _validated(kind, values, source)


def _validated(
    kind: type[Config],
    values: Mapping[str, Any],
    source: Path | None,
    overrides: Sequence[str] = (),
) -> Config:
    """Check values through JSON: strict types then take text for a path, a list for a tuple."""
    try:
        text = json.dumps(values, default=str)
        return kind.model_validate_json(text)
    except pydantic.ValidationError as error:
        raise UserError(_explain(kind, json.loads(text), error, source, overrides)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{source or 'configuration'}: {error}: write plain values") from None


def dump(config: Strict, path: Path) -> None:
    """Write every value of a configuration, defaults included, as YAML that `load` reads back."""
    write_text(path, dumped(config))


def dumped(config: Strict) -> str:
    """Return the YAML that `dump` writes."""
    values = config.model_dump(mode="json")
    return str(yaml.dump(values, Dumper=Dumper, sort_keys=False, allow_unicode=True))


def by_key(config: Strict) -> dict[str, Any]:
    """Return every value of a configuration by its dotted key."""
    return _flatten(config.model_dump(mode="json"))


SPREAD = ("sharding", "train.sharding")
"""How a training is spread over machines; it may go on spread otherwise."""


def require_same(config: Strict, stored: Mapping[str, Any], source: Path) -> None:
    """Check that a configuration equals the one that an earlier run stored, but for `SPREAD`.

    Args:
        config: the configuration of now.
        stored: the values stored then, as `model_dump(mode="json")` gives them.
        source: the folder or file they come from, for the message.

    Raises:
        UserError: a value differs; the line names the first key, both values and the fix.
    """
    now, then = by_key(config), _flatten(stored)
    for key in [*now, *then]:
        if key in SPREAD:
            continue
        if key not in now or key not in then or now[key] != then[key]:
            raise UserError(
                f"{source} was made with {key}={then.get(key, 'absent')}, "
                f"not {now.get(key, 'absent')}: give the same value to resume, or another --out"
            )


def _nested_defaults(kind: type[Strict]) -> dict[str, Any]:
    """Return the defaults that are configurations themselves, so that a part of one can be given.

    `train.steps=40` then changes the steps and leaves the other values of that default alone.
    """
    return {
        name: field.default.model_dump(mode="json")
        for name, field in kind.model_fields.items()
        if isinstance(field.default, Strict)
    }


def _merge(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Lay values over defaults, dictionary by dictionary."""
    merged = dict(defaults)
    for key, value in values.items():
        inner = merged.get(key)
        both = isinstance(inner, dict) and isinstance(value, dict)
        merged[key] = _merge(inner, value) if both else value  # type: ignore[arg-type]
    return merged


def read(path: Path) -> dict[str, Any]:
    """Return the values of a YAML file, unchecked.

    Raises:
        UserError: it cannot be read, or is no YAML mapping.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(f"{path} is no file: write the configuration into one")
        values = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"cannot read the configuration {path}: {error.strerror}: name a YAML file, such as "
            "config.yaml of a run"
        ) from None
    except UnicodeDecodeError:
        raise UserError(
            f"{path} is not UTF-8 text: save it as UTF-8 in your editor, or with "
            f"`iconv -f GB18030 -t UTF-8` (or the encoding that it has)"
        ) from None
    except RepeatedKeyError as error:
        raise UserError(f"{path}, {reason_of(error)}") from None
    except yaml.YAMLError as error:
        raise UserError(
            f"{path} is not YAML ({reason_of(error)}): write `key: value` lines"
        ) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected `key: value` lines, found a {type(values).__name__}")
    return values


def _apply(kind: type[Strict], values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    shown = _short(override)
    if not equals or not all(parts):
        raise UserError(f"option {shown}: expected key=value, such as train.steps=40")
    try:
        value = read_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"option {shown}: the value is not YAML ({reason_of(error)})") from None
    for index, part in enumerate(parts[:-1]):
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise UserError(f"option {shown}: {'.'.join(parts[: index + 1])} has no keys inside")
    # The values of a section are laid over those that are there; any other dictionary is replaced.
    whole = {parts[-1]: value}
    values.update(_merge(values, whole) if _keys(kind, parts) else whole)


def _explain(
    kind: type[Strict],
    values: Mapping[str, Any],
    error: pydantic.ValidationError,
    path: Path | None,
    overrides: Sequence[str],
) -> str:
    # A misspelt required key is both unknown and missing: the unknown one shows the mistake.
    details = sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
    detail = details[0]
    location = _existing(values, detail["loc"], missing=detail["type"] == "missing")
    key = ".".join(map(str, location))
    source = str(path) if path is not None else "configuration"
    # What a section as a whole says names its values; which option is to blame is not known.
    of_section = key and detail["type"] == "value_error" and isinstance(detail["input"], dict)
    for override in overrides:
        given = override.partition("=")[0].strip()
        if f"{given}.".startswith(f"{key}.") or f"{key}.".startswith(f"{given}."):
            source = "configuration" if of_section else f"option {_short(override)}"
    told = detail["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    if detail["type"] == "extra_forbidden":
        name, accepted = str(location[-1]), _keys(kind, location[:-1])
        inner = [] if len(location) > 1 else list(_flatten(_nested_defaults(kind)))
        problem = f"unknown key {_short(key)}: {_suggest(name, accepted, inner)}"
    elif detail["type"] == "missing":
        problem = f"{key} is missing: give it a value"
    elif of_section:
        problem = f"{key}: {told}"
    else:
        found = _short(repr(detail["input"]))
        problem = f"{_short(key)} is {found}: {told}" if key else told
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    where = "" if of_section and source == "configuration" else f"{source}: "
    return " ".join(f"{where}{problem}{more}".split())


def _short(text: str) -> str:
    """Return a text that was given, its middle left out where it is long."""
    return text if len(text) <= 120 else f"{text[:80]} … {text[-20:]}"


def _existing(values: Any, location: Sequence[int | str], missing: bool) -> tuple[int | str, ...]:
    """Drop the parts of an error's location that name a type of a union and not a key."""
    kept: list[int | str] = []
    for part in location:
        is_key = isinstance(values, dict) and part in values
        is_item = isinstance(values, list) and isinstance(part, int) and part < len(values)
        if is_key or is_item:
            values = values[part]
        elif not (missing and part == location[-1]):
            continue
        kept.append(part)
    return tuple(kept)


def _keys(kind: type[Strict], location: Iterable[int | str]) -> list[str]:
    """List the keys that are accepted inside a location."""
    models: list[type[pydantic.BaseModel]] = [kind]
    for part in location:
        fields = [model.model_fields[str(part)] for model in models if part in model.model_fields]
        if fields:  # otherwise the part is an index or the key of a dictionary
            models = [model for field in fields for model in _models(field.annotation)]
    return [name for model in models for name in model.model_fields]


def _models(annotation: Any) -> list[type[pydantic.BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _suggest(key: str, accepted: Sequence[str], inner: Sequence[str]) -> str:
    outer, _, below = key.partition(".")
    if below and outer in accepted:
        return f"write `{outer}:`, and below it, indented, `{below}:` (or --set {key}=VALUE)"
    near = [one for one in inner if one.rpartition(".")[2] == key]
    near = near or difflib.get_close_matches(key, accepted, n=1)
    return f"did you mean {near[0]}?" if near else f"accepted are {', '.join(accepted)}"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
