"""Inserting artifacts: what each way does to speech, how it is scored, and the tiny command."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rrpo.audio import SAMPLE_RATE
from rrpo.checkpoint import read_json
from rrpo.errors import UserError
from rrpo.studies import artifact_trials as trials
from rrpo.studies import artifacts as study
from rrpo.studies.insertions import WAYS
from rrpo.studies.peers import Essentia, count, highest
from test_artifacts import sentence


@pytest.mark.parametrize("name", WAYS)
def test_nothing_but_the_place_changes(name: str) -> None:
    way, clean = WAYS[name], np.asarray(0.7 * sentence(0), np.float32)
    for level in way.levels:
        found = way.insert(clean, level, np.random.default_rng(1))
        start, end = round(found.start * SAMPLE_RATE), round(found.end * SAMPLE_RATE)
        np.testing.assert_array_equal(found.audio[:start], clean[:start])
        longer = found.audio.size - clean.size
        np.testing.assert_array_equal(found.audio[end:], clean[end - longer :])
        assert 0 <= start < end <= found.audio.size
        assert np.abs(found.audio).max() <= 1.0


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.unit == "peak"])
def test_a_level_is_the_peak_of_what_is_added(name: str) -> None:
    quiet = np.asarray(1e-4 * sentence(0), np.float32)
    found = WAYS[name].insert(quiet, 0.3, np.random.default_rng(2)).audio
    assert np.abs(found - quiet).max() == pytest.approx(0.3, abs=1e-5)


def test_clipping_cuts_to_its_level() -> None:
    clean = sentence(0)
    found = WAYS["clipping"].insert(clean, 6.0, np.random.default_rng(0))
    place = slice(round(found.start * SAMPLE_RATE), round(found.end * SAMPLE_RATE))
    share = np.abs(found.audio[place]).max() / np.abs(clean[place]).max()
    assert 20 * np.log10(share) == pytest.approx(-6.0, abs=0.01)


def test_separation_is_one_where_scores_do_not_overlap() -> None:
    rows = [trials.Trial("a", 2.0 + i, [float(i % 2), 1.0]) for i in range(5)]
    assert trials.separated(rows, 20) == {"mean": 1.0, "low": 1.0, "high": 1.0}
    same = [trials.Trial("a", 1.0, [1.0, 1.0])] * 3
    assert trials.separated(same, 20)["mean"] == 0.5


def test_alarms_are_counted_by_the_minute() -> None:
    clean = np.asarray(0.7 * sentence(0), np.float32)
    struck = clean.copy()
    struck[1000] += 0.5
    speech = [trials.Speech("a", "sad", str(n), one) for n, one in enumerate((clean, struck))]
    found = study.false_alarms(speech)
    minutes = 2 * clean.size / SAMPLE_RATE / 60
    assert found["corpus"]["a"]["minutes"] == pytest.approx(minutes)
    for row in (found["corpus"]["a"], found["corpus"]["real speech"], found["emotion"]["sad"]):
        assert row["click"]["mean"] == pytest.approx(1 / minutes)
        assert row["repetition"]["mean"] == 0.0


def test_events_of_a_peer_are_counted_once() -> None:
    events = [(0.1, 0.1, 30.0), (0.102, 0.103, 30.0), (0.5, 0.6, 30.0), (0.5, 0.6, 6.0)]
    assert count(events, 30.0) == 2
    assert count(events, 31.0) == count([], 0.0) == 0
    assert highest(events, 0.55, 0.7) == 30.0
    assert highest(events, 0.7, 0.8) == 0.0


def test_an_unknown_or_missing_peer_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no peer 'other'"):
        study.run(tmp_path, peer="other")
    try:
        import essentia  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match="essentia is not installed"):
            Essentia()


def test_the_command_writes_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = tmp_path / "corpora" / "mine"
    corpus.mkdir(parents=True)
    for number in range(2):
        soundfile.write(corpus / f"{number}.wav", 0.5 * sentence(number), SAMPLE_RATE)
    # Paths relative to the folder above, as a collection of corpora has them.
    rows = "".join(f"mine/{number}.wav,sad,de\n" for number in range(2))
    (corpus / "manifest.csv").write_text("path,emotion,language\n" + rows)
    monkeypatch.setattr(study.artifact_quality.quality, "available", dict)
    monkeypatch.setattr(study.artifact_quality.quality, "missing", lambda: {"plcmos": "gone"})
    size = study.Size(inserted=2, clean=2, windows=1, resamples=5, ids=4, contexts=1, rated=1)
    text = study.run(tmp_path / "out", [corpus], size).read_text(encoding="utf-8")
    figures = read_json(tmp_path / "out" / "study.json")
    assert list(figures["detectors"]) == list(WAYS)
    assert set(figures["goal"]) == {"real speech", "mini world", "mine (de)"}
    assert "not measured: gone" in text
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 2 * len(WAYS)
    assert (tmp_path / "out" / "figure.svg").read_text().lstrip().startswith("<?xml")
