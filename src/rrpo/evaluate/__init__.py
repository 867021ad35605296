"""Judges of speech and of reward models; called, it is the API's `rrpo.evaluate`.

`rrpo.evaluate(["runs/rrpo"])` is `rrpo.judging.evaluate`, whose docstring says what it takes.
"""

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any


class _Evaluate(ModuleType):
    """Lets `rrpo.evaluate(["runs/rrpo"])` be the function, whose name the package has."""

    def __call__(self, *args: Any, **options: Any) -> dict[str, dict[str, Any]]:
        """Call `rrpo.judging.evaluate`."""
        found: dict[str, dict[str, Any]] = importlib.import_module("rrpo.judging").evaluate(
            *args, **options
        )
        return found

    @property
    def __signature__(self) -> inspect.Signature:
        """The signature of `rrpo.judging.evaluate`, for editors and `inspect`."""
        return inspect.signature(importlib.import_module("rrpo.judging").evaluate)


sys.modules[__name__].__class__ = _Evaluate
