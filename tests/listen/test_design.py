"""A design is read whole or refused; a listener's pages tell nothing that they should not."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyloudnorm", reason="needs pyloudnorm: pip install 'rrpo[listen]'")
from recorded_systems import built
from rrpo.errors import UserError
from rrpo.listen.design import pages_of, read_design, sound_file


def test_what_was_built_is_read(tmp_path: Path) -> None:
    assert read_design(built(tmp_path) and tmp_path / "test") == read_design(tmp_path / "test")


def test_a_listener_is_told_no_system_source_role_or_answer(tmp_path: Path) -> None:
    design = built(tmp_path)
    for order in range(len(design.orders)):
        told = pages_of(design, order)
        text = json.dumps(told)
        for secret in ("alpha", "beta", "best", "anchor", "reference", "repeat", "attention",
                       "sha256", '"gain', "answer\"", str(tmp_path)):  # fmt: skip
            assert secret not in text.replace("An example of", ""), secret
        assert [page["id"] for page in told["pages"]] == design.orders[order]
        keys = {"id", "training", "sounds", "questions", "text", "emotion", "note"}
        assert all(page.keys() == keys for page in told["pages"])
        assert told["pages"][0]["training"] and not told["pages"][-1]["training"]
    assert pages_of(design, len(design.orders)) == pages_of(design, 0)


def changed(tmp_path: Path, change: Any) -> Path:
    """Build a test and change its design's JSON."""
    built(tmp_path)
    path = tmp_path / "test" / "design.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    return tmp_path / "test"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v["pages"][0]["sounds"].append("nothing"), "names the sound 'nothing'"),
        (lambda v: v["pages"][0]["questions"].append("why"), "names the question 'why'"),
        (lambda v: v["orders"][0].append("x1"), "names the page 'x1'"),
        (lambda v: v["orders"][0].append(v["orders"][0][0]), "stands twice"),
        (lambda v: v["sounds"][0].update(id="../../x"), "is no plain word"),
        (lambda v: v.update(orders=[]), "has no pages"),
        (lambda v: v.update(surprise=1), "surprise"),
        (lambda v: v["systems"].append("reference"), "cannot be called reference"),
        (lambda v: v.update(systems=["anchor", "beta"]), "cannot be called anchor"),
        (lambda v: v.update(systems=["alpha", "attention"]), "cannot be called attention"),
        (lambda v: v["systems"].append("alpha"), "'alpha' stands twice"),
        (lambda v: v["sounds"][0].update(system="other"), "names the system 'other'"),
        (lambda v: v["sounds"][0].update(system="reference"), "plays the reference"),
    ],
)
def test_a_design_that_does_not_fit_together_is_refused(
    tmp_path: Path, change: Any, said: str
) -> None:
    folder = changed(tmp_path, change)
    with pytest.raises(UserError, match=said) as told:
        read_design(folder)
    assert "\n" not in str(told.value)


def test_a_lost_sound_and_a_folder_that_is_no_test_are_named(tmp_path: Path) -> None:
    design = built(tmp_path)
    sound_file(tmp_path / "test", design.sounds[0].id).unlink()
    with pytest.raises(UserError, match="is missing"):
        read_design(tmp_path / "test")
    with pytest.raises(UserError, match="is no listening test"):
        read_design(tmp_path)
