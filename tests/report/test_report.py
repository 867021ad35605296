"""Tests of the pages: what they say, what they leave out, and that they reach for nothing."""

import base64
import copy
import io
import itertools
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from demo_folder import (
    HOSTILE,
    demo_curves,
    demo_results,
    make_demo,
    spread_of,
    system,
    voice,
)
from places import ROOT
from rrpo import audio
from rrpo.errors import UserError
from rrpo.interval import Interval, read_interval
from rrpo.report import figure, summarize, write_page, write_run_page
from rrpo.report.listening import listening, marks_of
from rrpo.report.numbers import number
from rrpo.report.plots import Chart, Line, Point, chart_svg, spread, ticks
from rrpo.report.scatter import panels
from rrpo.report.sound import (
    BANDS,
    HIGHEST,
    LOWEST,
    flac_uri,
    mel_spectrogram,
    opus_uri,
    spectrogram_uri,
)
from rrpo.report.summary import Summary
from rrpo.report.tables import standout
from rrpo.report.terminal import print_systems, print_table
from rrpo.sound import file as sound_file

STYLE = ROOT / "src" / "rrpo" / "report" / "style.css"


class Reader(HTMLParser):
    """Collects tags and text, and checks that tags close in order."""

    VOID = ("meta", "input", "img", "br", "link")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def all_of(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every such tag."""
        return [attrs for name, attrs in self.tags if name == tag]

    def words(self) -> str:
        """The visible text with single spaces."""
        return " ".join(" ".join(self.text).split())


def read_page(path: Path) -> Reader:
    """Parse a page."""
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo folder with its page written."""
    folder = make_demo(tmp_path_factory.mktemp("demo") / "run")
    assert write_page(folder) == folder / "report.html"
    return folder


@pytest.mark.slow
def test_page_has_every_player_and_reaches_for_nothing(demo: Path) -> None:
    reader = read_page(demo / "report.html")
    sounds = reader.all_of("audio")
    assert len(sounds) == 6 * 5
    assert all(sound["preload"] == "none" and sound["aria-label"] for sound in sounds)
    for _, attrs in reader.tags:
        for name in ("src", "srcset", "poster", "data", "action"):
            assert str(attrs.get(name) or "data:").startswith("data:")
        assert str(attrs.get("href") or "#").startswith("#")
    html = (demo / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"base64,[\w+/=]+", "", html))
    assert "url(" not in html and "@import" not in html


def test_page_offers_the_sentences_there_are(demo: Path, tmp_path: Path) -> None:
    def named(reader: Reader, name: str) -> int:
        return len([a for a in reader.all_of("input") if a.get("name") == name])

    # The first of six emotions has a sentence of its own.
    reader = read_page(demo / "report.html")
    assert (named(reader, "emotion"), named(reader, "sentence")) == (6, 2)
    reader = read_page(write_page(make_demo(tmp_path / "run", texts=2, seconds=0.05)))
    assert (named(reader, "emotion"), named(reader, "sentence")) == (6, 3)


def test_page_sound_is_the_sample(demo: Path) -> None:
    reader = read_page(demo / "report.html")
    [sound] = [a for a in reader.all_of("audio") if str(a["aria-label"]).startswith("RRPO, sad")]
    content = base64.b64decode(str(sound["src"]).split(",")[1])
    found, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    wanted = sound_file.read(demo / "audio" / "rrpo_sad_0.wav")
    assert rate == audio.SAMPLE_RATE
    assert len(found) == len(wanted)
    assert np.corrcoef(found, wanted)[0, 1] > 0.95


def test_a_copy_of_a_sound_is_kept_until_the_sound_is_newer(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    first, second = voice(0.2, 120, [], 0), voice(0.3, 200, [], 1)
    audio.write(path, first)
    uri = opus_uri(first, path)
    assert opus_uri(second, path) == uri
    later = path.stat().st_mtime + 5
    os.utime(path, (later, later))
    assert opus_uri(second, path) != uri


def test_page_says_what_it_must(demo: Path) -> None:
    words = read_page(demo / "report.html").words()
    for wanted in (
        "The emotion labels are synthetic.",
        "rrpo demo --out runs/demo --seed 0",
        "the package distillmos is not installed",
        "no recogniser is installed",
        "SFT stopped at step 120",
        "nats per token",
        "A reward rose while something else got worse",
        "Smoke run.",
    ):
        assert (wanted in words) == (wanted != "Smoke run."), wanted
    assert 'title="click at 0.10 s, strength 7.3"' in (demo / "report.html").read_text()


def test_page_escapes_what_it_is_given(demo: Path) -> None:
    reader = read_page(demo / "report.html")
    assert len(reader.all_of("script")) == 1
    assert HOSTILE in reader.words()
    labels = [str(attrs["aria-label"]) for attrs in reader.all_of("audio")]
    assert any(HOSTILE in label for label in labels)


@pytest.mark.slow
def test_page_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_demo(tmp_path / "run")
    (folder / "report.html").write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match="disk full"):
        write_page(folder)
    assert (folder / "report.html").read_text() == "old"
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith(".")) == []


PARTS = ("seconds", "machine", "command", "reference", "systems", "reward_models", "training")


@pytest.mark.parametrize("absent", [*PARTS, "missing_judges", "smoke", "seed"])
@pytest.mark.parametrize("none", [True, False])
def test_page_does_without(tmp_path: Path, absent: str, none: bool) -> None:
    results = demo_results()
    del results[absent]
    if none:
        results[absent] = None
    (tmp_path / "results.json").write_text(json.dumps(results))
    words = read_page(write_page(tmp_path)).words()
    assert "nothing to hear" in words and "Curves" not in words


def test_page_of_nothing_but_a_brace(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    words = read_page(write_page(tmp_path)).words()
    assert "What this run shows" not in words
    assert "All figures" not in words


STAGES = [
    {"name": "rm", "title": "Reward models", "state": "done", "seconds": 74.2, "left": None},
    {"name": "sft", "title": "SFT", "state": "running", "seconds": 10, "left": 125.0},
    {"name": "rrpo", "title": "RRPO", "state": "waiting", "seconds": None, "left": None},
]


def test_page_while_the_demo_is_running(tmp_path: Path) -> None:
    (tmp_path / "stages.json").write_text(json.dumps(STAGES))
    words = read_page(write_page(tmp_path)).words()
    assert "Still running SFT about 2 min left 1 of 3 stages are done" in words
    assert "Reward models done in 74 s SFT about 2 min left RRPO waiting" in words
    assert "nothing to hear yet" in words
    folder = make_demo(tmp_path / "run", seconds=0.05)
    (folder / "results.json").unlink()
    (folder / "stages.json").write_text(json.dumps(STAGES))
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["system"] in ("base", "sft")]
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reader = read_page(write_page(folder))
    assert len(reader.all_of("audio")) == 12
    assert "Still running" in reader.words()
    done = [stage | {"state": "done"} for stage in STAGES]
    (folder / "stages.json").write_text(json.dumps(done))
    assert "Still running" not in read_page(write_page(folder)).words()
    (folder / "stages.json").write_text("[3]")
    with pytest.raises(UserError, match="as the run wrote it"):
        write_page(folder)


def test_a_taste_says_so_and_shows_what_it_found(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(demo_results() | {"smoke": False}))
    assert "A taste." not in read_page(write_page(tmp_path)).words()
    results = demo_results() | {"smoke": False, "taste": True}
    (tmp_path / "results.json").write_text(json.dumps(results))
    words = read_page(write_page(tmp_path)).words()
    assert "What this run shows A taste. One emotion, a fifth of the steps" in words
    assert "closer to the asked emotion" in words


@pytest.mark.slow
def test_page_survives_nulls_and_lost_sounds(tmp_path: Path) -> None:
    folder = make_demo(tmp_path / "run")
    lines = (folder / "samples.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows[0]["wav"] = "../../outside.wav"
    rows[1]["wav"] = "audio/lost.wav"
    for row in rows[2:]:
        row |= {"reward": None, "judge_probability": None, "artifacts": None, "quality": None}
    (folder / "samples.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    curves = [row | {"kl": None, "quality": {"plcmos": None}} for row in demo_curves()]
    (folder / "curves.jsonl").write_text("\n".join(json.dumps(row) for row in curves))
    results = demo_results()
    for name in results["systems"]["rrpo"]:
        results["systems"]["rrpo"][name] = None
    results["reward_models"]["plain"] = None
    (folder / "results.json").write_text(json.dumps(results))
    reader = read_page(write_page(folder))
    assert len(reader.all_of("audio")) == 28
    assert reader.words().count("sound missing") == 2


def test_page_names_the_broken_line(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    (tmp_path / "curves.jsonl").write_text('{"system": "sft"}\n{"system": ')
    with pytest.raises(UserError, match=r"curves\.jsonl line 2"):
        write_page(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(UserError, match="not a JSON object"):
        write_page(tmp_path)
    with pytest.raises(UserError, match="is not a demo"):
        write_page(tmp_path / "nowhere")


def subjects(summary: Summary) -> list[str]:
    """What the cautions of a summary are about."""
    return [caution.subject for caution in summary.cautions]


def test_caution_where_reward_rises_and_quality_falls() -> None:
    found = {c.subject: c for c in summarize(demo_results()).cautions if c.significant}
    assert set(found) == {"DiffRO over Base", "DiffRO over SFT"}
    assert "DNSMOS overall fell from 3.00 to 2.70; " in found["DiffRO over SFT"].text
    assert "judge" not in found["DiffRO over SFT"].text


@pytest.mark.parametrize(
    ("key", "value", "cautioned"),
    [
        ("judge_probability", 0.70, True),
        ("judge_probability", 0.73, False),  # under the step, intervals overlap
        ("judge_probability", 0.80, False),
        ("quality.plcmos", 3.44, True),
        ("repetition", 0.14, True),
        ("repetition", 0.02, False),
        ("tokens", 90.0, True),
        ("tokens", 50.0, True),
        ("tokens", 74.0, False),
        ("artifacts_per_second", 0.2, True),
        ("artifacts_per_second", 0.02, False),
    ],
)
def test_caution_by_each_rule(key: str, value: float, cautioned: bool) -> None:
    results = demo_results()
    results["systems"] = {name: results["systems"][name] for name in ("sft", "diffro")}
    results["systems"]["diffro"] = system(-0.1, 0.75, 3.0, 0.5)
    assert subjects(summarize(results)) == []
    place = results["systems"]["diffro"]
    *way, last = key.split(".")
    for name in way:
        place = place[name]
    place[last] = spread_of(value)
    assert bool(summarize(results).cautions) == cautioned


def test_caution_needs_a_reward_that_rose() -> None:
    results = demo_results()
    for name, entry in results["systems"].items():
        entry["rewards"] = {"plain": spread_of(-0.5), "ls_eam_adv": spread_of(-0.5)}
        entry["quality"] = {"plcmos": spread_of(3.0 if name in ("base", "sft") else 1.0)}
    assert subjects(summarize(results)) == []


def test_caution_says_when_it_may_be_chance() -> None:
    results = demo_results()
    results["systems"]["diffro"]["quality"] = {"plcmos": {"mean": 3.3, "low": 3.0, "high": 3.6}}
    cautions = summarize(results).cautions
    assert cautions
    for caution in cautions:
        assert not caution.significant
        assert "PLCMOS fell from 3.50 to 3.30" in caution.text


def test_paired_utterances_decide_what_is_significant() -> None:
    results = demo_results()
    for entry in results["systems"].values():
        entry["judge_probability"] = spread_of(entry["judge_probability"]["mean"], 0.4)
    assert "no significant difference in emotion from SFT" in summarize(results).verdict[0]
    rows = [
        {"system": name, "id": str(n), "judge_probability": 0.1 * (n % 7) + lift}
        for name, lift in (("sft", 0.0), ("diffro", 0.2), ("rrpo", -0.1))
        for n in range(20)
    ]
    for row in rows[:20]:
        row["judge_probability"] += 0.001 * int(row["id"])
    text = summarize(results, rows).verdict[0]
    assert text.startswith("DiffRO came closer to the asked emotion than SFT")
    assert "RRPO fell behind in the asked emotion: SFT" in text


def test_caution_for_a_length_counts_only_away_from_the_reference() -> None:
    results = demo_results()
    results["systems"]["rrpo"]["tokens"] = spread_of(90.0)
    assert "RRPO over SFT" in subjects(summarize(results))
    results["reference"]["tokens"] = spread_of(92.0)
    assert "RRPO over SFT" not in subjects(summarize(results))


def test_verdict_in_at_most_five_sentences_of_the_figures() -> None:
    results = demo_results()
    for entry, error in zip(results["systems"].values(), (0.1, 0.1, 0.3, 0.11), strict=True):
        entry["content_error"] = spread_of(error)
        entry["utterances"] = 36
    assert summarize(results).verdict == [
        "DiffRO and RRPO came closer to the asked emotion than SFT (judge’s probability 0.86 and "
        "0.90 against 0.75).",
        "DiffRO got more words wrong than SFT (30\u00a0% against 10\u00a0%); RRPO showed no "
        "significant difference in words wrong from SFT (11\u00a0% against 10\u00a0%).",
        "Against SFT, DiffRO lost speech quality (DNSMOS overall and PLCMOS).",
        "Against DiffRO, RRPO is better in emotion, words and speech quality.",
        "One seed and 36 utterances of a synthetic voice cannot tell whether another seed agrees, "
        "nor anything about human emotion.",
    ]
    results["systems"]["diffro"] = results["systems"]["rrpo"]
    assert summarize(results).verdict[3] == (
        "Against DiffRO, RRPO is not significantly different in emotion, words and speech quality."
    )
    quality = results["systems"]["rrpo"]["quality"]
    results["systems"]["diffro"] = {**results["systems"]["rrpo"], "quality": {**quality}}
    apart = results["systems"]["diffro"]["quality"]
    apart["dnsmos_overall"], apart["plcmos"] = (
        spread_of(quality[name]["mean"] + change)
        for name, change in (("dnsmos_overall", 0.5), ("plcmos", -0.5))
    )
    assert summarize(results).verdict[3] == (
        "Against DiffRO, RRPO is better in PLCMOS, worse in DNSMOS overall, and not significantly "
        "different in emotion and words."
    )
    results["systems"] = {"base": results["systems"]["sft"]}
    assert summarize(results).verdict == []


def test_points_of_the_chart_lie_where_the_figures_do() -> None:
    results = demo_results()
    entries = {"reference": results["reference"]} | results["systems"]
    [(title, svg)] = panels(entries)  # no word error was measured
    assert title == "Emotion against quality"
    reader = Reader()
    reader.feed(svg)
    assert reader.open == []
    assert "Real tokens" in reader.words()
    marks = [str(a["d"]) for t, a in reader.tags if t == "path" and a.get("class") == "mark"]
    places = [tuple(map(float, re.findall(r"[\d.]+", d)[:2])) for d in marks]
    assert len(places) == 5
    # Diffro's quality is the least and the base's emotion: to the left, and at the bottom.
    assert min(range(5), key=lambda n: places[n][0]) == 3
    assert max(range(5), key=lambda n: places[n][1]) == 1
    for entry in entries.values():
        entry["content_error"] = spread_of(0.1)
    assert next(name for name, _ in panels(entries)) == "Emotion against words"
    assert panels({}) == []


def test_the_table_on_the_terminal_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    results = demo_results()
    more = results["systems"] | {"best_of_8": results["systems"]["sft"]}
    for entry in (results["reference"], *more.values()):
        entry["content_error"] = spread_of(0.25)
    print_table(results | {"systems": more}, Console(width=80, force_terminal=False))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    [line] = [line for line in lines if line.split()[:1] == ["diffro"]]
    assert line.split()[:4] == ["diffro", "0.86", "2.70", "0.25"]


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 1)), min_size=2, max_size=2),
)
def test_apart_means_no_common_point(ends: list[tuple[float, float]]) -> None:
    first, second = (Interval(mean, mean - half, mean + half) for mean, half in ends)
    common = max(first.low, second.low) <= min(first.high, second.high)
    assert first.apart(second) is (not common)
    assert first.apart(Interval(0.0)) is None


def test_an_interval_is_read_from_numbers_alone() -> None:
    for value in (None, True, "1", float("nan"), float("inf"), {"mean": None}, {}, []):
        assert read_interval(value) is None
    assert read_interval({"mean": 1, "low": None, "high": 2}) == Interval(1.0)
    assert number(-0.004) == "0.00" and number(0.004, signed=True) == "0.00"


def test_bold_only_with_intervals_apart() -> None:
    one, two = Interval(0.9, 0.85, 0.95), Interval(0.7, 0.65, 0.75)
    assert standout({"a": one, "b": two}, "higher") == "a"
    assert standout({"a": one, "b": two}, "lower") == "b"
    assert standout({"a": one, "b": two}, "") == ""
    assert standout({"a": one, "b": Interval(0.84, 0.8, 0.88)}, "higher") == ""
    assert standout({"a": one, "b": Interval(0.2)}, "higher") == ""


def test_a_page_plays_the_first_sentences_in_every_emotion(tmp_path: Path) -> None:
    samples = [
        {"system": name, "emotion": emotion, "text": text}
        for name, emotion, text in [
            ("rrpo", "sad", "two"),
            ("sft", "sad", "one"),
            ("best_of_8", "sad", "two"),
            ("sft", "happy", "three"),
            *[("sft", "sad", f"text {n}") for n in range(9)],
        ]
    ]
    heard = listening(tmp_path, samples)
    assert (heard.emotions, heard.first, heard.others) == (["happy", "sad"], 0, ["best_of_8"])
    assert (heard.sentences, heard.left_out) == (8, 4)
    takes = {(t.emotion, t.text): [card.system for card in t.cards] for t in heard.takes}
    assert takes["sad", "two"] == ["rrpo", "best_of_8"]
    assert takes["happy", "three"] == ["sft"]
    assert len(takes) == 2 * 8
    assert takes["happy", "one"] == []


def test_marks_stay_inside_the_sound() -> None:
    artifacts = [
        {"kind": "click", "start": 0.5, "end": 0.6, "strength": 3.0},
        {"kind": "pop", "start": 1.9, "end": 2.5},
        {"kind": "pop", "start": 2.5, "end": 2.6},
        {"kind": "pop", "start": None, "end": 2.6},
    ]
    marks = marks_of({"artifacts": artifacts}, 2.0)
    assert [(m.left, m.width) for m in marks] == [(25.0, 5.0), (95.0, 5.0)]


@pytest.mark.parametrize("frequency", [300.0, 1000.0, 4000.0])
def test_mel_spectrogram_of_a_tone(frequency: float) -> None:
    time = np.arange(8000) / audio.SAMPLE_RATE
    level = mel_spectrogram(np.sin(2 * np.pi * frequency * time).astype(np.float32))
    assert level.shape == (BANDS, 51)
    centres = np.linspace(*2595 * np.log10(1 + np.array([LOWEST, HIGHEST]) / 700), BANDS + 2)[1:-1]
    loudest = centres[level[:, 25].argmax()]
    wanted = 2595 * np.log10(1 + frequency / 700)
    assert abs(loudest - wanted) < 2 * (centres[1] - centres[0])


def test_spectrogram_has_high_frequencies_above() -> None:
    time = np.arange(8000) / audio.SAMPLE_RATE
    uri = spectrogram_uri((0.5 * np.sin(2 * np.pi * 6000 * time)).astype(np.float32))
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("L"))
    assert pixels.shape[0] == BANDS
    assert pixels[: BANDS // 4].mean() > 2 * pixels[-BANDS // 4 :].mean()


def test_silence_and_a_single_sample_can_be_shown() -> None:
    for sound in (np.zeros(1600, dtype=np.float32), np.ones(1, dtype=np.float32)):
        assert spectrogram_uri(sound).startswith("data:image/webp")
        assert flac_uri(sound).startswith("data:audio/flac")


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_and_inside(low: float, span: float) -> None:
    high = low + span
    found = ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high), span)
    assert all(low - slack <= value <= high + slack for value in found)
    assert 1 <= len(found) <= 7


@given(st.lists(st.floats(0, 200), min_size=1, max_size=6).map(sorted))
def test_spread_keeps_labels_apart_and_inside(wanted: list[float]) -> None:
    placed = spread(wanted, 12.0, 0.0, 200.0)
    assert all(b - a >= 12.0 - 1e-6 for a, b in itertools.pairwise(placed))
    assert placed[0] >= -1e-6 and placed[-1] <= 200 + 1e-6


def test_chart_draws_within_its_box_and_escapes() -> None:
    points = [Point(x, Interval(y, y - 1, y + 1), HOSTILE) for x, y in [(0, 3), (1, 9), (2, -4)]]
    svg = chart_svg(Chart(HOSTILE, "step", [Line("sft", HOSTILE, points)], level=2.0))
    assert "<script>" not in svg
    reader = Reader()
    reader.feed(svg)
    assert reader.open == []
    stroke = next(a["d"] for t, a in reader.tags if t == "path" and a.get("class") == "stroke")
    coordinates = [float(v) for v in re.findall(r"[\d.]+", str(stroke))]
    assert all(0 <= x <= 340 for x in coordinates[::2])
    heights = coordinates[1::2]
    assert all(0 <= y <= 236 for y in heights)
    assert heights[1] < heights[0] < heights[2]
    assert chart_svg(Chart("", "", [])) == ""


def contrast(first: str, second: str) -> float:
    """WCAG 2 contrast ratio of two #rrggbb colours."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_colours_have_contrast_in_light_and_dark() -> None:
    """WCAG 2.2 AA: 4.5 for text, 3 for the edges of controls and for marks."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE.read_text(), flags=re.DOTALL)[:2]
    assert len(blocks) == 2
    systems = ("reference", "base", "sft", "dpo", "grpo", "diffro", "rrpo", "multitask")
    for block in blocks:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for under in ("page", "panel"):
            for name in ("ink", "soft", "link", "mark", *systems):
                assert contrast(colours[name], colours[under]) >= 4.5, (name, under)
            for name in ("firm", "focus", "warn-rule"):
                assert contrast(colours[name], colours[under]) >= 3, (name, under)
        assert contrast(colours["warn-ink"], colours["warn-page"]) >= 4.5
        assert contrast(colours["ink"], colours["warn-page"]) >= 4.5


def test_run_page(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(UserError, match="is not a run"):
        write_run_page(folder)
    rows = [{"step": n, "loss": 1 / (n + 1), "kl": 0.1 * n, "note": "x"} for n in range(100)]
    (folder / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    words = read_page(write_run_page(folder)).words()
    assert "holds no configuration" in words and "holds no results" in words
    (folder / "config.yaml").write_text("name: <b>bold</b>\n")
    results = {"loss": spread_of(0.2), "accuracy": {"same": 0.5}, "kind": "sft"}
    results["validations"] = [
        {"step": 1, "quality/plcmos": 3.0},
        {"step": 2, "quality/plcmos": 3.1},
    ]
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "checkpoint").mkdir()
    model = {"config": {"codec": "mini d14cb7fa289bf212"}}
    (folder / "checkpoint" / "model.json").write_text(json.dumps(model))
    reader = read_page(write_run_page(folder))
    assert "name: <b>bold</b>" in reader.words()
    assert "Its tokens are of the codec mini (d14cb7fa)." in reader.words()
    assert "Accuracy, same 0.5000" in reader.words()
    assert len([a for a in reader.all_of("svg") if a.get("role") == "img"]) == 3
    assert "Quality, PLCMOS" in reader.words()


def test_a_run_that_listens_to_itself_says_so_on_its_page(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("start: mini\n")
    figure_at = {"now": 0.25, "start": 0.5, "evidence": 3.5}
    look = {"measures": {"reward": {**figure_at, "evidence": 3e7}, "recodec": figure_at}}
    look |= {"seconds": 4.0, "alarm": False, "said": "", "kept": True, "harm": 1.5}
    lines = [{**look, "step": 0}, {**look, "step": 20}]
    path = tmp_path / "monitor.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = read_page(write_run_page(tmp_path)).words()
    assert "No alarm in 2 looks, the last at step 20." in words
    assert "Reward lost when the audio is encoded again, nats 0.500 0.250 3.50" in words
    assert "Reward, as paid 0.500 0.250 3e+07" in words
    lines.append({**look, "step": 40, "alarm": True, "said": "the reward <rose>", "kept": False})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = read_page(write_run_page(tmp_path)).words()
    assert "Alarm at step 40 the reward <rose>." in words
    assert "No alarm" not in words
    assert "The last look without suspicion was at step 20." in words


@pytest.mark.slow
def test_figure_in_both_formats(tmp_path: Path) -> None:
    figure(demo_results(), demo_curves(), tmp_path / "picture.png")
    pixels = np.asarray(Image.open(tmp_path / "picture.png").convert("RGB"), dtype=int)
    assert (np.abs(pixels - [0x0A, 0x75, 0x58]).sum(axis=-1) < 12).sum() > 100
    figure({}, demo_curves()[:7], tmp_path / "picture.svg")
    assert "<svg" in (tmp_path / "picture.svg").read_text()


def test_summary_leaves_its_input_alone() -> None:
    results = demo_results()
    before = copy.deepcopy(results)
    summarize(results)
    assert results == before


def test_every_reward_model_is_a_row_of_an_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"mean": -0.5, "low": -0.75, "high": -0.25}
    system = {"reward": None, "rewards": {"a": value, "[b]": {**value, "mean": -9.0}}}
    print_systems({"run": system}, Console(width=120), ["a", "[b]"], synthetic=False)
    printed = capsys.readouterr().out
    assert "synthetic" not in printed
    assert "own reward" not in printed
    assert [line for line in printed.splitlines() if "emotion, a" in line and "-0.50" in line]
    assert [line for line in printed.splitlines() if "emotion, [b]" in line and "-9.00" in line]
    assert "paired" not in printed
    less = {**system, "tokens": value, "less [a]": {"tokens": {**value, "mean": 4.0}}}
    print_systems({"[a]": {**system, "tokens": value}, "b": less}, Console(width=120), [])
    printed = capsys.readouterr().out
    assert "Less [a], paired by sentence" in printed
    assert [line for line in printed.splitlines() if "tokens" in line and "+4.000" in line]
    gaps = {"all": value, "happy": {**value, "mean": 7.0}}
    audited = {**system, "recodec": {"[b]": gaps}}
    print_systems({"run": audited}, Console(width=120), ["a", "[b]"], synthetic=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "recodec gap, [b], all" in line and "-0.50" in line]
    assert [line for line in lines if "recodec gap, [b], happy" in line and "7.00" in line]


def test_a_run_that_was_evaluated_can_be_heard_on_its_page(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("start: mini\n")
    value = {"mean": 0.625, "low": 0.5, "high": 0.75}
    figures = {"seed": 0, "system": {"reward": None, "rewards": {"rm": value}, "utterances": 2}}
    (tmp_path / "evaluation.json").write_text(json.dumps(figures))
    (tmp_path / "samples").mkdir()
    rows = []
    for emotion in ("happy", "sad"):
        soundfile.write(tmp_path / "samples" / f"{emotion}.wav", np.full(1600, 0.1), 16_000)
        rows.append({"text": "A <b>.", "emotion": emotion, "wav": f"samples/{emotion}.wav"})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "samples" / "samples.jsonl").write_text(lines)
    html = write_run_page(tmp_path).read_text(encoding="utf-8")
    assert html.count("<audio") == 2
    assert "A &lt;b&gt;." in html
    assert "0.6250" in html
    (tmp_path / "evaluation.json").unlink()
    assert "<audio" not in write_run_page(tmp_path).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_page_with_sounds_ends_with_how_others_judge_them(tmp_path: Path) -> None:
    folder = make_demo(tmp_path / "my demo")
    page = write_page(folder).read_text(encoding="utf-8")
    assert "Let others judge" in page
    assert "rrpo listen build &#39;my demo&#39; --out &#39;my demo-heard&#39;" in page
    assert str(tmp_path) not in page.split("Let others judge")[1].split("</section>")[0]
    (folder / "samples.jsonl").write_text("")
    assert "Let others judge" not in write_page(folder).read_text(encoding="utf-8")
