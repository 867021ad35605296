"""Listening tests of folders of recordings, and of the bundled base."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("pyloudnorm", reason="needs pyloudnorm: pip install 'rrpo[listen]'")
from recorded_systems import built, noise, recordings
from rrpo import audio
from rrpo.errors import UserError
from rrpo.files import sha256
from rrpo.listen.build import Plan, build, changed_exclusion
from rrpo.listen.design import pages_of, read_design, sound_file
from rrpo.listen.instructions import read_instructions
from rrpo.listen.loudness import loudness_of
from rrpo.listen.systems import Speaking, gather


def test_every_listener_hears_every_item_once_with_its_checks(tmp_path: Path) -> None:
    design = built(tmp_path, systems=2)
    pages = {page.id: page for page in design.pages}
    sounds = {one.id: one for one in design.sounds}
    heard: Counter[tuple[str, str]] = Counter()
    for order in design.orders:
        roles = Counter(pages[name].role for name in order)
        assert roles == {"training": 2, "test": 8, "repeat": 2, "reference": 2, "anchor": 2,
                         "attention": 3}  # fmt: skip
        assert [pages[name].role for name in order[:2]] == ["training"] * 2
        tested = [sounds[pages[name].sounds[0]] for name in order if pages[name].role == "test"]
        assert len({one.item for one in tested}) == 8
        assert set(Counter(one.emotion for one in tested).values()) == {4}
        assert set(Counter(one.system for one in tested).values()) == {4}
        heard.update((one.system, one.item) for one in tested)
        for name in order:
            if (first := pages[name].repeats) is not None:
                assert order.index(first) < order.index(name)
                assert pages[name].sounds == pages[first].sounds
    assert len(heard) == 16 and len(set(heard.values())) == 1


def test_the_examples_are_of_a_text_that_is_not_in_the_test(tmp_path: Path) -> None:
    design = built(tmp_path)
    texts = {role: {page.text for page in design.pages if page.role == role}
             for role in ("training", "test", "reference", "anchor")}  # fmt: skip
    assert not texts["training"] & texts["test"]
    assert texts["reference"] <= texts["test"] and texts["anchor"] <= texts["test"]


def test_sounds_are_equally_loud_and_have_no_metadata(tmp_path: Path) -> None:
    design = built(tmp_path)
    for sound in design.sounds:
        path = sound_file(tmp_path / "test", sound.id)
        assert sound.sha256 == sha256(path)
        samples, rate = soundfile.read(path)
        assert loudness_of(samples, rate) == pytest.approx(-23.0, abs=0.1)
        assert path.stat().st_size == 44 + 2 * samples.size  # a header and nothing else
        assert sound.seconds == pytest.approx(samples.size / rate, abs=1e-3)
        assert sound.system not in path.name


def test_the_seed_makes_the_same_test_with_other_ids(tmp_path: Path) -> None:
    def shape(folder: Path, seed: int) -> list[list[tuple[str, str | None]]]:
        design = built(folder, anew=True, seed=seed)
        pages = {page.id: page for page in design.pages}
        return [[(pages[name].role, pages[name].text) for name in one] for one in design.orders]

    first = shape(tmp_path / "one", 1)
    assert first == shape(tmp_path / "two", 1) != shape(tmp_path / "three", 2)
    one, two = (read_design(tmp_path / name / "test") for name in ("one", "two"))
    assert not {page.id for page in one.pages} & {page.id for page in two.pages}


@pytest.mark.parametrize("template", ["cmos", "preference"])
def test_pairs_come_in_both_orders(tmp_path: Path, template: str) -> None:
    design = built(tmp_path, systems=3, template=template)
    sounds = {one.id: one for one in design.sounds}
    pages = {page.id: page for page in design.pages if page.role == "test"}
    pairs = Counter(
        tuple(sounds[name].system for name in pages[one].sounds)
        for order in design.orders
        for one in order
        if one in pages
    )
    assert len(pairs) == 6 and max(pairs.values()) - min(pairs.values()) <= len(design.orders)
    assert all(len({sounds[name].item for name in page.sounds}) == 1 for page in pages.values())
    assert not design.exclusion.reference_below_anchor


@pytest.mark.parametrize(
    ("template", "kind"), [("mos", "scale"), ("identification", "choice"), ("artifacts", "marks")]
)
def test_other_templates_do_not_name_the_emotion(tmp_path: Path, template: str, kind: str) -> None:
    design = built(tmp_path, template=template, reference=False)
    assert design.questions[0].kind == kind
    assert all(page.emotion is None for page in design.pages)
    if kind == "choice":
        assert design.questions[0].choices == ["happy", "sad"]


def test_the_papers_test_has_its_scale(tmp_path: Path) -> None:
    scales = [one for one in built(tmp_path).questions if one.kind == "scale"]
    assert [(one.name, one.low, one.high, one.step) for one in scales] == [
        ("emotion", 1, 5, 0.5),
        ("naturalness", 1, 5, 0.5),
    ]


def test_what_cannot_be_built_is_told_in_a_line(tmp_path: Path) -> None:
    one, other = recordings(tmp_path / "one"), recordings(tmp_path / "two" / "one")
    out = tmp_path / "test"
    few = Plan(texts=2, listeners=2)
    cases = [
        ([str(one), str(other)], few, "two systems are called one"),
        (
            [str(one)],
            Plan(texts=6),
            "6 texts in the emotion happy cannot be had: the systems have 5",
        ),
        ([str(one)], Plan(texts=2, emotions=["angry"]), "there are happy, sad"),
        ([str(one)], Plan(texts=2, template="cmos"), "two systems"),
        ([str(one)], Plan(texts=2, template="abx"), "unknown template"),
        ([str(one)], Plan(texts=2, systems=["three"]), "no system three"),
        ([str(one), "mini"], few, "let it speak first"),
        ([str(tmp_path / "nowhere")], few, "no run or folder at"),
    ]
    for runs, plan, said in cases:
        with pytest.raises(UserError, match=said) as told:
            build(runs, out, plan)
        assert "\n" not in str(told.value)
        assert not out.exists()
    build([str(one), f"second={other}"], out, few)
    before = (out / "design.json").read_bytes()
    with pytest.raises(UserError, match="is not empty"):
        build([str(one)], out, few)
    assert (out / "design.json").read_bytes() == before


@pytest.mark.parametrize("name", ["reference", "anchor", "attention"])
def test_a_system_is_not_called_as_a_part_of_the_test(tmp_path: Path, name: str) -> None:
    """Its ratings would be counted with those of the hidden reference."""
    one = recordings(tmp_path / "one")
    other = recordings(tmp_path / name, seed=1)
    for runs in ([str(one), str(other)], [str(one), f"{name}={one}"]):
        with pytest.raises(UserError, match=f"cannot be called {name}.*NAME=FOLDER"):
            build(runs, tmp_path / "test", Plan())
    build([str(one), f"other={other}"], tmp_path / "test", Plan())


def test_a_folder_that_is_nothing_is_told_as_that(tmp_path: Path) -> None:
    one = recordings(tmp_path / "one")
    (tmp_path / "empty").mkdir()
    for run, said in (
        (tmp_path / "empty", "holds no table.csv, and is no demo or policy"),
        (tmp_path / "nofolder", "no run or folder at"),
        ("=", "no run or folder at"),
    ):
        with pytest.raises(UserError, match=said):
            build([str(one), str(run)], tmp_path / "test", Plan())


def test_a_system_is_named_once_and_a_text_is_not_empty(tmp_path: Path) -> None:
    folder = recordings(tmp_path / "alpha")
    with pytest.raises(UserError, match="names a system twice"):
        build([str(folder)], tmp_path / "test", Plan(template="mos", systems=["alpha", "alpha"]))
    table = folder / "table.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    with table.open("w", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(lines))
        rows[1]["text"] = " "
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(UserError, match="line 3: the text is empty"):
        build([str(folder)], tmp_path / "test", Plan(template="mos"))


def test_one_system_has_no_power_of_a_difference_and_fewer_repeats_are_told(tmp_path: Path) -> None:
    folder = recordings(tmp_path / "alpha")
    plan = Plan(template="mos", texts=1, listeners=1, repeats=99)
    _, lines = build([str(folder)], tmp_path / "test", plan)
    assert "power: calculated for a difference of two systems only" in lines
    assert lines[0].startswith("1 system: alpha; ")
    assert any("of 99 repeats: no more pages can be repeated" in line for line in lines)


def test_a_name_of_ones_own_is_that_of_the_system(tmp_path: Path) -> None:
    """Also of what `rrpo evaluate` let a run say, and before the systems of a demo."""
    rows = [{"wav": f"samples/{n}.wav", "text": f"Text {n}.", "emotion": "happy"} for n in (0, 1)]
    for run in ("x", "y"):
        folder = tmp_path / run / "rrpo" / "samples"
        folder.mkdir(parents=True)
        for number in (0, 1):
            audio.write(folder / f"{number}.wav", noise(seed=number))
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    places = [str(tmp_path / run / "rrpo" / "samples") for run in ("x", "y")]
    with pytest.raises(UserError, match="two systems are called rrpo"):
        gather(places, None, Speaking())
    found = gather([f"one={places[0]}", f"two={places[1]}"], None, Speaking())
    assert list(found.systems) == ["one", "two"]
    demo = tmp_path / "demo"
    shutil.copytree(places[0], demo / "samples")
    told = [{"system": name, **rows[0]} for name in ("base", "rrpo")]
    (demo / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    assert list(gather([str(demo)], None, Speaking()).systems) == ["base", "rrpo"]
    assert list(gather([f"new={demo}"], None, Speaking()).systems) == ["new-base", "new-rrpo"]


def test_a_single_check_can_be_failed_and_more_than_there_are_cannot(tmp_path: Path) -> None:
    assert built(tmp_path, template="mos", attention=1).exclusion.attention_failed == 1
    with pytest.raises(UserError, match="the test has 1 attention check"):
        changed_exclusion(Plan(attention=1), ["attention_failed=2"])


@pytest.mark.parametrize("template", ["preference", "identification", "artifacts", "mos", "cmos"])
def test_a_scale_is_told_of_where_there_is_one(tmp_path: Path, template: str) -> None:
    design = built(tmp_path, template=template)
    told = [*design.instructions, *(page.note or "" for page in design.pages)]
    assert any("scale" in line for line in told) == (template in ("mos", "cmos"))


def test_examples_of_a_text_of_the_test_are_told(tmp_path: Path) -> None:
    folder = recordings(tmp_path / "alpha", texts=2)
    _, lines = build([str(folder)], tmp_path / "all", Plan(template="mos", texts=2, listeners=1))
    assert "no text is left for the examples: they are of a text of the test" in lines
    _, lines = build([str(folder)], tmp_path / "one", Plan(template="mos", texts=1, listeners=1))
    assert not any("examples" in line for line in lines)


def test_rules_can_be_changed_before_the_test() -> None:
    plan = changed_exclusion(Plan(), ["attention_failed=1"])
    assert plan.exclusion is not None
    assert (plan.exclusion.attention_failed, plan.exclusion.repeat_difference) == (1, 1.2)
    with pytest.raises(UserError, match="colour"):
        changed_exclusion(Plan(), ["colour=1"])


def without(folder: Path, *missing: str) -> Path:
    """Take the rows of these files out of a folder's table."""
    lines = (folder / "table.csv").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.split(",")[0] not in missing]
    (folder / "table.csv").write_text("\n".join(kept) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "template", ["paper", "mos", "cmos", "preference", "identification", "artifacts"]
)
def test_texts_that_a_system_lacks_are_named(tmp_path: Path, template: str) -> None:
    one = recordings(tmp_path / "one", texts=8)
    gone = [f"{text}-sad.wav" for text in range(4)]
    two = without(recordings(tmp_path / "two", texts=8, seed=1), *gone)
    best = without(recordings(tmp_path / "best", texts=8, seed=2), "7-happy.wav")
    plan = Plan(template=template, texts=2, listeners=2)
    _, lines = build([str(one), str(two)], tmp_path / "test", plan, best)
    (told,) = [line for line in lines if "left out" in line]
    assert told.startswith("5 texts left out, with who lacks each: Sentence 0. [sad] (two); ")
    assert told.count(";") == 3 and told.endswith("; …")
    _, lines = build([str(one)], tmp_path / "whole", Plan(template="mos", texts=2, listeners=2))
    assert not any("left out" in line for line in lines)


def test_emotions_that_are_not_in_the_test_and_a_reference_that_lacks_a_text_are_named(
    tmp_path: Path,
) -> None:
    one = recordings(tmp_path / "one")
    best = without(recordings(tmp_path / "best"), "3-sad.wav")
    plan = Plan(template="mos", texts=2, listeners=2, emotions=["sad"])
    _, lines = build([str(one)], tmp_path / "test", plan, best)
    assert "1 text left out, with who lacks each: Sentence 3. [sad] (reference)" in lines
    assert "emotions left out: happy" in lines


def test_instructions_of_ones_own_stand_in_place_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "told.txt"
    file.write_text("\ufeffListen <b>well</b>\nand long.\n\n\nThen answer — please.\n", "utf-8")
    design = built(tmp_path, instructions=read_instructions(file))
    assert design.instructions == ["Listen <b>well</b> and long.", "Then answer — please."]
    assert pages_of(design, 0)["instructions"] == design.instructions


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        (b"", "is empty"),
        (b" \n\n ", "is empty"),
        (b"\xff\xfeL\x00", "no text in UTF-8"),
        (b"a\x00b", "no plain text"),
        (b"a" * 10_001, "over 10 kB"),
        ("é".encode() * 6000, "over 10 kB"),
        (b"a" + "é".encode() * 6000, "over 10 kB"),
    ],
)
def test_a_file_that_holds_no_instructions_is_refused(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "told.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=said) as told:
        read_instructions(file)
    assert "told.txt" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.slow
def test_the_bundled_base_speaks_for_a_test(tmp_path: Path) -> None:
    plan = Plan(texts=1, listeners=1, emotions=["happy"])
    design, lines = build(["mini", "again=mini"], tmp_path / "test", plan)
    assert design.systems == ["mini", "again"] and design.bundled_voice
    assert {"reference", "anchor"} <= {one.system for one in design.sounds}
    assert "no number of listeners is enough" in " ".join(lines)
    one, other = (
        soundfile.read(sound_file(tmp_path / "test", sound.id))[0]
        for sound in design.sounds[:2]
        if sound.system in design.systems
    )
    assert np.array_equal(one, other)  # the same policy with the same seed


def test_a_demo_is_a_test_of_its_systems_with_its_real_tokens_hidden(tmp_path: Path) -> None:
    for number, system in enumerate(("reference", "base", "rrpo")):
        folder = recordings(tmp_path / "demo" / "samples" / system, texts=3, seed=number)
        with (folder / "table.csv").open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        with (tmp_path / "demo" / "samples.jsonl").open("a", encoding="utf-8") as stream:
            for row in rows:
                told = {"system": system, "wav": f"samples/{system}/{row['file']}"}
                stream.write(json.dumps(told | {k: row[k] for k in ("text", "emotion")}) + "\n")
    design, _ = build([str(tmp_path / "demo")], tmp_path / "test", Plan(listeners=2))
    assert design.systems == ["base", "rrpo"] and design.bundled_voice
    assert {one.system for one in design.sounds} >= {"reference", "anchor"}
    tested = {page.text for page in design.pages if page.role == "test"}
    assert len(tested) == 2  # all but one, which is left for the examples
