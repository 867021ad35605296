"""YAML of version 1.2 without surprises: what configurations and instructions are written in."""

import re
from typing import Any

import yaml

INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)$")
NUMBER = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|Inf|INF)$"
    r"|\.(?:nan|NaN|NAN)$"
)


class RepeatedKeyError(yaml.constructor.ConstructorError):
    """A key that a mapping has twice."""


class Loader(yaml.SafeLoader):
    """Safe YAML with the scalars of version 1.2: `1e-5` is a number and `no` is a word.

    The 1.1 rules of PyYAML read the first as text and the second as false. A key given twice is an
    error instead of a silent choice; so is a reference (`*name`), as a few lines of them can stand
    for more than fits into memory.
    """

    # The stubs describe the inherited dictionary too narrowly to be cleared with its own type.
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Build a node, refusing a reference to another."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                problem=f"*{event.anchor} is a reference: write the value out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, refusing a repeated key."""
        first: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in first:
                raise RepeatedKeyError(
                    problem=f"the key {key.value} is given twice, in line {first[key.value]} too: "
                    "keep one",
                    problem_mark=key.start_mark,
                )
            first[key.value] = line
        return super().construct_mapping(node, deep=deep)


class Dumper(yaml.SafeDumper):
    """Safe YAML that quotes whatever `Loader` would not read back as text."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Escape the line breaks of Unicode: PyYAML writes them plain and reads a space."""
        style = '"' if re.search("[\x85\u2028\u2029]", data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


Dumper.add_representer(str, Dumper.represent_str)


for _kind, _pattern, _first in (
    ("null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", INTEGER, list("-+0123456789")),
    ("float", NUMBER, list("-+.0123456789")),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _pattern, _first)
    Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _pattern, _first)


def read_yaml(text: str) -> Any:
    """Read YAML.

    Raises:
        yaml.YAMLError: it is none, or cannot be read.
    """
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError:
        raise
    except Exception as error:  # a tag on a wrong value, or a nesting too deep, raises anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise yaml.YAMLError(f"a value cannot be read, {reason[:80]}") from None


def reason_of(error: yaml.YAMLError) -> str:
    """Return what is wrong with a YAML text, and its line where it is known."""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None)
    problem = problem or str(error).partition("\n")[0] or "syntax error"
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: {problem}" if mark is not None else str(problem)
