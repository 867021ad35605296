"""The recipe's stages: what is skipped, what goes on, and what a folder is refused for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rrpo.errors import UserError
from rrpo.files import read_json, write_text
from rrpo_world import build as recipe

Calls = list[str]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Three quick stages; "second" stops the first time, after half of its work."""
    made: Calls = []

    def stage(name: str) -> Callable[[Path], dict[str, Any]]:
        def run(folder: Path) -> dict[str, Any]:
            made.append(name)
            half = folder / "half"
            if name == "second" and not half.is_file():
                write_text(half, "done")
                raise KeyboardInterrupt
            return {"made": name}

        return run

    stages = [(name, stage(name)) for name in ("first", "second", "world")]
    monkeypatch.setattr(recipe, "stages", lambda _seed, _scale: stages)
    return made


def test_an_interrupted_stage_goes_on_and_says_how_often_it_was_taken_up(
    calls: Calls, tmp_path: Path
) -> None:
    out = tmp_path / "recipe"
    with pytest.raises(KeyboardInterrupt):
        recipe.build(out)
    assert read_json(out / "legs.json") == {"second": 1}
    assert not (out / "second" / "done.json").exists()
    recipe.build(out)
    recipe.build(out)
    assert calls == ["first", "second", "second", "world"]
    done = {name: read_json(out / name / "done.json") for name in ("first", "second", "world")}
    assert done["second"]["legs"] == 2
    assert list(done["second"]) == ["seconds", "legs", "made"]
    assert "legs" not in done["first"]
    assert "legs" not in done["world"]
    assert read_json(out / "legs.json") == {}


def test_a_part_that_could_not_be_made_is_tried_again_and_packed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    packed: list[bool] = []
    voice = tmp_path / "voice"

    def part(folder: Path) -> dict[str, Any]:  # noqa: ARG001 - a stage is given its folder
        return {"utterances": 1} if voice.exists() else {recipe.LEFT_OUT: "no voice"}

    def pack(folder: Path) -> dict[str, Any]:
        packed.append((folder.parent / "part" / "done.json").is_file())
        return {}

    stages = [("part", part), ("world", pack)]
    monkeypatch.setattr(recipe, "stages", lambda _seed, _scale: stages)
    recipe.build(tmp_path / "recipe")
    recipe.build(tmp_path / "recipe")
    assert packed == [False]
    voice.touch()
    recipe.build(tmp_path / "recipe")
    assert packed == [False, True]
    # Being left out twice was no leg of it.
    assert "legs" not in read_json(tmp_path / "recipe" / "part" / "done.json")
    assert "legs" not in read_json(tmp_path / "recipe" / "world" / "done.json")


@pytest.mark.parametrize(("changed", "name"), [({"seed": 4}, "seed"), ({"scale": 0.5}, "scale")])
def test_another_recipe_in_the_same_folder_is_refused(
    calls: Calls, tmp_path: Path, changed: dict[str, Any], name: str
) -> None:
    out = tmp_path / "recipe"
    with pytest.raises(KeyboardInterrupt):
        recipe.build(out, seed=3, scale=0.1)
    with pytest.raises(UserError, match=rf"another {name} \(.* there, .*\): choose another --out"):
        recipe.build(out, **{"seed": 3, "scale": 0.1, **changed})
    assert calls == ["first", "second"]
    recipe.build(out, seed=3, scale=0.1)
    assert calls[-1] == "world"


def test_a_folder_that_does_not_say_its_recipe_is_refused(calls: Calls, tmp_path: Path) -> None:
    (tmp_path / "codec").mkdir()
    with pytest.raises(UserError, match="does not say which seed"):
        recipe.build(tmp_path)
    assert calls == []
    assert [path.name for path in tmp_path.iterdir()] == ["codec"]
