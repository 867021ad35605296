"""The second act of a demo's page."""

import json
from pathlib import Path

import pytest

from demo_folder import make_demo, voice
from rrpo.audio import write
from rrpo.report.hacked import FILE, hacked
from rrpo.report.page import write_page

TEXTS = ["One of the <first>.", "And another."]


def with_second_act(folder: Path) -> Path:
    make_demo(folder)
    acts = []
    for number, title in enumerate(("Before", "DiffRO on plain")):
        sounds = []
        for place in range(len(TEXTS)):
            name = f"hacked/{number}-{place}.wav"
            write(folder / name, voice(0.3 + 0.1 * number, 150.0, [0.1], place))
            mark = {"kind": "click", "start": 0.1, "end": 0.11, "strength": 4.0}
            sounds.append({"wav": name, "artifacts": [mark]})
        acts.append({"title": title, "figures": f"{number}.50 clicks", "sounds": sounds})
    told = {"told": "In a study.", "command": "rrpo study", "texts": TEXTS, "acts": acts}
    (folder / FILE).write_text(json.dumps(told))
    return folder


@pytest.mark.slow
def test_each_policy_says_each_sentence(tmp_path: Path) -> None:
    page = write_page(with_second_act(tmp_path)).read_text(encoding="utf-8")
    section = page.split('<section id="hacked">')[1].split("</section>")[0]
    assert "In a study. <code>rrpo study</code>" in section
    assert section.count("<audio") == 4
    assert section.count("1.50 clicks") == 2
    assert section.count('title="click at 0.10 s, strength 4.0"') == 4
    assert "One of the &lt;first&gt;." in section
    # Longer sounds are drawn longer.
    found = hacked(tmp_path)
    assert found is not None
    assert [[one.share for one in act.players if one] for act in found.acts] == [
        [75.0] * 2,
        [100.0] * 2,
    ]


@pytest.mark.slow
def test_a_sound_that_is_gone_is_said(tmp_path: Path) -> None:
    with_second_act(tmp_path)
    (tmp_path / "hacked" / "1-0.wav").unlink()
    section = write_page(tmp_path).read_text(encoding="utf-8").split('<section id="hacked">')[1]
    assert section.count("<audio") == 3
    assert section.count("The sound is missing.") == 1


@pytest.mark.slow
def test_a_demo_without_it_has_none(tmp_path: Path) -> None:
    assert hacked(make_demo(tmp_path)) is None
    assert 'id="hacked"' not in write_page(tmp_path).read_text(encoding="utf-8")
