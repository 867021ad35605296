"""Inserting artifacts: what each way does to speech, how it is scored, and the tiny command."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rrpo.audio import SAMPLE_RATE
from rrpo.data.manifest import Recording, write_manifest
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.files import read_json
from rrpo.interval import exactly
from rrpo.mini.world import World
from rrpo_world.artifacts import quality, study, trials
from rrpo_world.artifacts.insertions import WAYS
from rrpo_world.artifacts.speech import Speech, real_speech
from rrpo_world.artifacts.tokens import stretches
from rrpo_world.transients import reach
from synthetic_speech import sentence


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
    rows = [trials.Trial("a", 2.0 + i, [float(i % 2), 1.0], str(i)) for i in range(5)]
    assert trials.separated(rows, 20) == exactly(1.0)
    same = [trials.Trial("a", 1.0, [1.0, 1.0], "one")] * 3
    assert trials.separated(same, 20).mean == 0.5


def voices(copies: int, named: bool) -> list[trials.Trial]:
    """Trials of six speakers, each of whose utterances is a copy of one utterance."""
    rng = np.random.default_rng(3)
    return [
        trials.Trial("a", score, noise, f"{speaker}-{copy}", f"s{speaker}" if named else "")
        for speaker in range(6)
        for score, noise in [(1.0 + float(rng.normal()), rng.normal(size=2).tolist())]
        for copy in range(copies)
    ]


@pytest.mark.parametrize("figure", ["auc", "hit"])
def test_copies_of_a_speaker_say_nothing_new(figure: str) -> None:
    """Over speakers forty copies leave the interval as it was; taken as if independent they do not.

    The least of how much wider it must be is far below sqrt(40).
    """

    def width(rows: list[trials.Trial]) -> float:
        if figure == "auc":
            found = trials.separated(rows, 2000)
        else:
            found = trials.rate(rows, [one.positive > 1.0 for one in rows], [1.0] * len(rows))
        return found.high - found.low

    alone, copied, naive = (width(voices(*how)) for how in ((1, True), (40, True), (40, False)))
    assert copied == pytest.approx(alone, rel=1e-6)
    assert copied > 4 * naive > 0


@pytest.mark.slow
def test_false_marks_of_a_speaker_are_no_independent_ones() -> None:
    changed = np.asarray(0.7 * sentence(0), np.float32)
    changed[1000] += 0.5
    widths = []
    for named in (True, False):
        speech = [
            Speech("a", "sad", f"{s}-{copy}", audio, f"s{s}" if named else "")
            for s, audio in enumerate((sentence(0), sentence(0), changed))
            for copy in range(8)
        ]
        row = study.false_alarms(speech)["corpus"]["a"]
        widths.append(row["click"].high - row["click"].low)
        assert row["drawn_by"] == ("3 speakers" if named else "24 utterances")
    assert widths[0] > 1.5 * widths[1] > 0


def test_clusters_are_speakers_where_there_are_several() -> None:
    def over(*speakers: str) -> str:
        rows = [trials.Trial("a", 1.0, [0.0], str(n // 2), s) for n, s in enumerate(speakers)]
        return trials.drawn_by(rows)[1]

    assert over("x", "x", "y", "y", "y", "y") == "2 speakers"
    assert over("x", "x", "x", "x", "x", "x") == "3 utterances"  # two trials each
    assert over("", "", "", "") == "2 utterances"
    assert over("", "") == "1 utterance"
    assert over("x", "x", "", "", "y", "y") == "2 speakers and 1 utterance"


def test_drops_of_quality_are_followed_in_utterances_of_every_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scorer that hears loudness alone; every other utterance is too short to be followed."""
    heard: list[float] = []

    def scorer(part: np.ndarray) -> float:
        heard.append(float(part[0]))
        return 4.0 - 20.0 * float(np.square(part).mean())

    monkeypatch.setattr(quality.quality, "available", lambda: {"plcmos": scorer})
    sounds = [np.full((4 if n % 2 else 2) * SAMPLE_RATE, 0.1 + n / 1e3) for n in range(40)]
    speech = [
        Speech("a", "sad", str(n), sound.astype(np.float32)) for n, sound in enumerate(sounds)
    ]
    found = quality.measure(speech, 5, 0)
    assert (found["utterances"], found["drawn_by"]) == (5, "5 utterances")
    assert {round(1e3 * (level - 0.1)) for level in heard} >= {1, 39}
    assert found["auc"] == exactly(1.0)
    assert found["false_per_minute"].mean == 0.0
    assert quality.measure(speech[::2], 5, 0) == {"reason": "no utterance lasts 3 s"}


def test_recordings_that_say_nothing_are_counted_and_a_manifest_of_them_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "mine"
    corpus.mkdir()
    sounds = {"good": sentence(0), "zeros": np.zeros(20_000), "hum": np.full(20_000, 5e-4)}
    for name, sound in sounds.items():
        soundfile.write(corpus / f"{name}.wav", sound, SAMPLE_RATE)
    (corpus / "broken.wav").write_bytes(b"RIFF")
    rows = [Recording(corpus / f"{name}.wav", "sad") for name in (*sounds, "broken")]
    real = real_speech(corpus, rows, study.SMOKE.clean, 0)
    assert [one.utterance for one in real.speech] == [str(corpus / "good.wav")]
    for words in ("mine: 2 silent (as ", "1 unreadable (as broken.wav) of 4 recordings drawn"):
        assert words in real.left_out
    assert real_speech(corpus, rows[:1], study.SMOKE.clean, 0).left_out == ""

    def unwanted() -> None:
        raise AssertionError("the mini world was spoken before the manifests were read")

    monkeypatch.setattr(study, "World", unwanted)
    write_manifest(corpus, rows[1:])
    expected = r"mine: none of 3 recordings drawn is speech of over a second: 2 silent \(as "
    with pytest.raises(UserError, match=expected):
        study.run(tmp_path / "out", [corpus])
    with pytest.raises(UserError, match=r"no manifest at .*none"):
        study.run(tmp_path / "out", [tmp_path / "none"])
    assert not (tmp_path / "out").exists()


def test_alarms_are_counted_by_the_minute() -> None:
    clean = np.asarray(0.7 * sentence(0), np.float32)
    changed = clean.copy()
    changed[1000] += 0.5
    speech = [Speech("a", "sad", str(n), one) for n, one in enumerate((clean, changed))]
    found = study.false_alarms(speech)
    minutes = 2 * clean.size / SAMPLE_RATE / 60
    assert found["corpus"]["a"]["minutes"] == pytest.approx(minutes)
    for row in (found["corpus"]["a"], found["corpus"]["real speech"], found["emotion"]["sad"]):
        assert row["click"].mean == pytest.approx(1 / minutes)
        assert row["repetition"].mean == 0.0


@pytest.mark.slow
def test_the_command_writes_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = tmp_path / "corpora" / "mine"
    corpus.mkdir(parents=True)
    for number in range(2):
        soundfile.write(corpus / f"{number}.wav", 0.5 * sentence(number), SAMPLE_RATE)
    # Paths relative to the folder above, as a collection of corpora has them.
    soundfile.write(corpus / "2.wav", np.zeros(30_000), SAMPLE_RATE)
    rows = "".join(f"mine/{number}.wav,sad,de\n" for number in range(3))
    (corpus / "manifest.csv").write_text("path,emotion,language\n" + rows)
    monkeypatch.setattr(quality.quality, "available", dict)
    monkeypatch.setattr(quality.quality, "missing", lambda: {"plcmos": "gone"})
    size = study.Size(inserted=2, clean=3, windows=1, resamples=5, ids=4, contexts=1, rated=1)
    text = study.run(tmp_path / "out", [corpus], size).read_text(encoding="utf-8")
    figures = read_json(tmp_path / "out" / "study.json")
    assert list(figures["detectors"]) == list(WAYS)
    assert set(figures["goal"]) == {"real speech", "mini world", "mine (de)"}
    assert "not measured: gone" in text
    assert (
        "whole clusters are resampled: 2 utterances (real speech), 2 utterances (mini world)"
        in text
    )
    assert "Left out of mine: 1 silent (as 2.wav) of 3 recordings drawn." in text
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 2 * len(WAYS)
    # What may be shown to others holds no recording.
    shown = (tmp_path / "out" / "examples.html").read_text(encoding="utf-8")
    assert shown.count("<audio") == len(WAYS)
    assert ', mine (de)"' in page
    assert ', mine (de)"' not in shown
    assert (tmp_path / "out" / "figure.svg").read_text().lstrip().startswith("<?xml")


def test_stretches_are_of_different_sentences_and_emotions() -> None:
    world = World()
    codec = world.codec()
    found, size = stretches(world, codec, 6), 2 * reach(codec) + 1
    assert [stretch.numel() for stretch in found] == [size] * 6
    whose = []
    for stretch in found:
        for row in world.shard("test_same"):
            start = (row.tokens.size - size) // 2
            if start >= 0 and row.tokens[start : start + size].tolist() == stretch.tolist():
                whose.append(row)
                break
    assert len({row.text for row in whose}) == 6
    assert {row.emotion for row in whose} == set(EMOTIONS)
    # Those that are listened to are of other sentences than those that decided.
    later = stretches(world, codec, 4, first=6)
    assert not {tuple(one.tolist()) for one in found} & {tuple(one.tolist()) for one in later}
