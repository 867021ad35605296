"""The studies on real speech, on noise in three invented languages and with a tiny encoder."""

import json
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from rrpo.codec import whisper
from rrpo.codec.speech import SpeechTokenizerConfig
from rrpo.codec.whisper import WhisperConfig, WhisperEncoder
from rrpo.data.shards import Utterance
from rrpo.errors import UserError
from rrpo.interval import with_intervals
from rrpo.reward import RewardConfig
from rrpo.studies import study
from rrpo.studies.study import publish
from rrpo_studies.real_speech import ablation, figures, jobs, languages, pages
from rrpo_studies.real_speech import workspace as parts
from rrpo_studies.real_speech.folds import AUDIO, CEILING, HARDENED, PRETRAINED, Fold, Job, Size
from rrpo_studies.real_speech.jobs import evenly_mixed, parents, posteriors, run_jobs
from rrpo_studies.real_speech.recordings import read_recordings
from rrpo_studies.real_speech.trials import held_out, strata, told_by_text, trials, unseen
from rrpo_studies.real_speech.workspace import Workspace

SIZE = Size(seeds=2, mixes=1, tokenizer_steps=2, pretrain_steps=2, finetune_steps=2)
EMOTIONS = ("sad", "happy", "angry")


def manifest(folder: Path, language: str, emotions: Iterable[str] = EMOTIONS) -> Path:
    """Write a corpus of three speakers who make noise."""
    rng = np.random.default_rng(sum(map(ord, language)))
    lines = ["path,emotion,speaker,language,corpus"]
    folder.mkdir(parents=True)
    for speaker in "abc":
        for emotion in emotions:
            for take in range(2):
                name = f"{speaker}_{emotion}_{take}.wav"
                soundfile.write(folder / name, rng.normal(0, 0.1, 8000), 16000)
                lines.append(f"{name},{emotion},{speaker},{language},{language}-corpus")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three corpora; whatever is loaded is tiny, and jobs are done here one by one."""

    def tiny(layers: int) -> WhisperEncoder:
        torch.manual_seed(0)
        return WhisperEncoder(WhisperConfig(width=6, heads=2, layers=layers)).eval()

    class Inline:
        """An executor of one worker, this one."""

        def __init__(self, *_: object) -> None:
            pass

        def __enter__(self) -> "Inline":
            return self

        def __exit__(self, *error: object) -> None:
            return None

        def submit(self, work: Any, *settings: Any) -> Future[Any]:
            done: Future[Any] = Future()
            done.set_result(work(*settings))
            return done

    def shape(workspace: Workspace) -> RewardConfig:
        tasks = {"emotion": workspace.emotions}
        return RewardConfig(width=16, layers=1, heads=2, feedforward=16, tasks=tasks)

    small = SpeechTokenizerConfig(states=12, layers=1, width=16, dilations=(1,), summary=4)
    monkeypatch.setattr(Workspace, "shape", shape)
    monkeypatch.setattr(whisper, "load", tiny)
    monkeypatch.setattr(parts, "TOKENIZER", small)
    monkeypatch.setattr(jobs, "TOKENIZER", small)
    monkeypatch.setattr(study, "ProcessPoolExecutor", Inline)
    return [
        manifest(tmp_path / "one", "xx"),
        manifest(tmp_path / "two", "yy"),
        manifest(tmp_path / "three", "zz", ("sad", "happy", "fearful")),
    ]


def test_who_is_tested_was_never_heard(tmp_path: Path, manifests: list[Path]) -> None:
    workspace = Workspace(tmp_path / "out", manifests, SIZE)
    assert workspace.emotions == ["happy", "sad"]
    for language, fold in held_out(workspace).items():
        heard = {workspace.recordings[index].speaker for index in workspace.training(fold)}
        for other in workspace.languages:
            tested = {
                workspace.recordings[index].speaker for index in unseen(workspace, other, fold)
            }
            assert tested
            assert not heard & tested
        assert (
            len(
                {workspace.recordings[index].speaker for index in unseen(workspace, language, fold)}
            )
            == 3
        )
    # Speakers of the same name in two corpora are two people.
    assert len({row.speaker for row in workspace.recordings}) == 9


def test_a_share_is_drawn_by_the_seed(tmp_path: Path, manifests: list[Path]) -> None:
    workspace = Workspace(tmp_path / "out", manifests, SIZE)
    whole, half = Fold(("xx", "yy")), Fold(("xx", "yy"), 0.5)
    everything = workspace.finetuning(whole)
    assert len(workspace.finetuning(half)) == len(everything) / 2
    assert set(workspace.finetuning(half, 1)) < set(everything)
    assert workspace.finetuning(half, 1) != workspace.finetuning(half, 2)
    kept = workspace.finetuning(Fold(("xx", "yy"), 0.01))
    assert len(kept) == 4  # one of each emotion and language
    assert workspace.training(half) == workspace.training(whole)
    assert (whole.name, half.name) == ("xx+yy", "xx+yy@0.5")


@pytest.mark.slow
def test_mixes_keep_to_what_is_trained_on(tmp_path: Path, manifests: list[Path]) -> None:
    workspace = Workspace(tmp_path / "out", manifests, replace(SIZE, mixes=20))
    fold = Fold(("xx", "zz"))
    allowed, asked = set(workspace.finetuning(fold)), []
    sound = workspace.sound

    def heard(index: int) -> Any:
        asked.append(index)
        return sound(index)

    workspace.sound = heard  # type: ignore[method-assign]
    own = workspace.finetuning(fold)[0]
    made = workspace.mixes(own, fold)
    assert len(made) == 20
    assert set(asked) <= allowed
    assert {workspace.recordings[index].language for index in asked} == {"xx", "zz"}
    assert {partner for _, partner, _ in made} <= allowed
    again = workspace.mixes(own, fold)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(made, again, strict=True))


@pytest.mark.slow
def test_the_ablation_is_written_and_goes_on(
    tmp_path: Path, manifests: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    page = ablation.run(manifests, out, SIZE)
    study = with_intervals(json.loads((out / "ablation.json").read_text()))
    assert set(study["models"]) == {
        PRETRAINED, "plain", "ls", "eam", "adv", "ls_eam", "ls_adv", "eam_adv", HARDENED, CEILING,
    }  # fmt: skip
    assert not list(out.rglob("mixes.parquet"))
    assert study["trainings"] == 3 * 10 * 2
    text = page.read_text()
    assert "unseen languages" in text
    assert "The paper's own figures" in text
    assert (out / "ablation.svg").read_text().startswith("<?xml")

    workspace = Workspace(out, manifests, SIZE)
    fold = held_out(workspace)["xx"]
    rows = unseen(workspace, "xx", fold)
    found = trials(workspace, [Job(fold, "ls", seed) for seed in range(2)], rows)
    by_hand = [balanced_accuracy_score(found.labels, one) for one in found.predictions]
    recall = study["models"]["ls"]["xx, unseen"]["unweighted_average_recall"]
    assert recall.mean == pytest.approx(np.mean(by_hand))
    plain = trials(workspace, [Job(fold, "plain", seed) for seed in range(2)], rows)
    assert plain.labels.tolist() == found.labels.tolist()
    seen = strata(
        workspace, "plain", list(held_out(workspace).values()), workspace.languages, seen=True
    )
    assert [one.predictions.shape[0] for one in seen] == [4, 4, 4]  # two folds, two seeds

    # Of two emotions one area is that of the other; over languages it is averaged.
    names = held_out(workspace)
    areas = [
        roc_auc_score(labels, row[:, 1])
        for name, fold in names.items()
        for labels, row in _heard(workspace, name, fold)
    ]
    beside = study["beside"]["ls"]["unseen languages"]
    assert beside["Area under the ROC curve"].mean == pytest.approx(np.mean(areas))
    assert not any("less plain" in one for one in study["beside"]["plain"]["seen languages"])
    assert any("less plain" in one for one in study["beside"][PRETRAINED]["seen languages"])
    assert set(study["differences"]) == set(study["models"]) - {"plain"}
    assert "LS + EAM less EAM" in study["steps"] and "EAM less LS" not in study["steps"]
    cost = study["beside"]["ls"]["unseen languages"]["Cross-entropy, nats"]
    by_hand = [
        -row[np.arange(labels.size), labels].mean()
        for name, fold in names.items()
        for labels, row in _heard(workspace, name, fold)
    ]
    assert cost.mean == pytest.approx(np.mean(by_hand))
    assert next(iter(study["steps"])) == f"{pages.label('ls')} less {pages.label('plain')}"
    assert set(study["by_language"][HARDENED]) == set(workspace.languages)
    gain = study["beside"]["eam"]["unseen languages"]["Area under the ROC curve, less plain"]
    assert f"| {gain:+.3f} | {gain.verdict} |" in text.split("ROC curve:")[1]

    # Nothing is trained twice; what is missing is made again, and the same.
    monkeypatch.setattr(parts, "train", None)
    monkeypatch.setattr(jobs, "train", None)
    assert ablation.run(manifests, out, SIZE) == page
    monkeypatch.undo()


@pytest.mark.slow
def test_some_of_the_reward_models_alone(tmp_path: Path, manifests: list[Path]) -> None:
    """Without one that mixes audio no mix is heard; the page lacks what was not trained."""
    out = tmp_path / "out"
    page = ablation.run(manifests, out, SIZE, models=[HARDENED]).read_text()
    study = with_intervals(json.loads((out / "ablation.json").read_text()))
    assert list(study["models"]) == ["plain", HARDENED]
    assert study["trainings"] == 3 * 2 * 2
    assert study["hardened"] == HARDENED
    assert not list(out.rglob("mixes.parquet"))
    assert "the hardened reward model (LS + EAM + Adv), in mean recall" in page
    gain = study["recall"]["unseen languages"]["hardened less plain, paired"]["sad"]
    assert f"| {gain:+.3f} | {gain.verdict} |" in page
    others = ("continuous states", "What each adds", "LS + Adv", "their mixes")
    for absent in ("# Each regularizer", *others):
        assert absent not in page
    # Others join what is there, and mixes are made for those that need them.
    made = {path: path.stat().st_mtime_ns for path in out.rglob("plain-*.safetensors")}
    page = ablation.run(manifests, out, SIZE, models=["plain", "eam", AUDIO, ""]).read_text()
    assert "their mixes" in page
    assert len(made) == 6
    assert made == {path: path.stat().st_mtime_ns for path in made}
    assert len(list(out.rglob("mixes.parquet"))) == 3
    assert json.loads((out / "ablation.json").read_text())["hardened"] == AUDIO
    for wrong, message in (
        (["typo"], "'typo': choose from pretrained, plain, ls,"),
        (["plain", "ls", CEILING], "no reward model is hardened"),
    ):
        with pytest.raises(UserError, match=message):
            ablation.run(manifests, out, SIZE, models=wrong)


def test_a_language_whose_words_tell_the_emotion_is_left_out_of_the_seen(
    tmp_path: Path, manifests: list[Path]
) -> None:
    workspace = Workspace(tmp_path / "out", manifests, SIZE)
    changed = [
        replace(row, text=f"{row.emotion} words" if row.language == "xx" else "the same")
        for row in workspace.recordings
    ]
    workspace.recordings = changed
    assert [told_by_text(workspace, name) for name in workspace.languages] == [1.0, 0.0, 0.0]
    told = figures.counts(workspace)
    study = {"languages": told, "seeds": 2}
    (line,) = (one for one in pages.notes(study) if "tell the emotion" in one)
    assert "The text of 100% of xx is said in one emotion alone" in line
    kept = ablation.pooled(workspace, {name: name for name in workspace.languages}, seen=True)
    assert kept == workspace.languages[1:]
    every = ablation.pooled(workspace, {name: name for name in workspace.languages}, seen=False)
    assert every == workspace.languages


def _heard(workspace: Workspace, name: str, fold: Fold) -> list[tuple[np.ndarray, np.ndarray]]:
    """Labels and scores of a language that a fold never heard, for each of two trainings."""
    found = trials(
        workspace, [Job(fold, "ls", seed) for seed in range(2)], unseen(workspace, name, fold)
    )
    assert found.scores is not None and found.scores.shape[-1] == 2
    return [(found.labels, row) for row in found.scores]


@pytest.mark.slow
def test_less_data_is_not_mixed_with_the_rest(
    tmp_path: Path, manifests: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path / "out", manifests, replace(SIZE, mixes=9))
    job, given = Job(Fold(("xx", "zz"), 0.5), AUDIO, 1), []
    objective = jobs.RewardObjective

    def watched(model: Any, rows: Any, fit: Any, mixes: Any) -> Any:
        given.extend(mixes)
        return objective(model, rows, fit, mixes)

    monkeypatch.setattr(jobs, "RewardObjective", watched)
    run_jobs(workspace, [job])
    chosen = set(workspace.finetuning(job.fold, job.seed))
    pool = workspace.pool(job.fold)
    assert {parent for row in given for parent in parents(row)} <= chosen
    mixed = [row for row in given if "+" in row.id]
    assert {row.id for row in mixed} == {row.id for row in pool if set(parents(row)) <= chosen}
    assert 0 < len({row.id for row in mixed}) < len(pool) / 2


def test_every_utterance_has_as_many_mixes() -> None:
    def row(name: str) -> Utterance:
        return Utterance(name, "", "sad", np.zeros(1))

    clean = [row("3"), row("5"), row("8")]
    pool = [row("3+5-0"), row("3+9-1"), row("3+8-2"), row("5+3-0"), row("8+9-0"), row("9+3-0")]
    found = [row.id for row in evenly_mixed(clean, pool, 3)]
    assert found == ["3+5-0", "3+8-2", "3+5-0", "5+3-0", "5+3-0", "5+3-0", "8", "8", "8"]
    everything = [*clean, row("9")]
    assert {one.id for one in evenly_mixed(everything, pool, 3)} >= {one.id for one in pool}


@pytest.mark.slow
def test_a_job_made_again_is_the_same(tmp_path: Path, manifests: list[Path]) -> None:
    workspace = Workspace(tmp_path / "out", manifests, SIZE)
    job = Job(Fold(("xx", "zz")), "ls_eam_adv", 1)
    run_jobs(workspace, [job])
    first = posteriors(workspace, job)
    (tmp_path / "out" / "jobs" / f"{job.name}.safetensors").unlink()
    run_jobs(workspace, [job])
    assert np.array_equal(posteriors(workspace, job), first)
    assert np.allclose(np.exp(first).sum(1), 1, atol=1e-5)


@pytest.mark.slow
def test_the_languages_study_shares_what_is_there(tmp_path: Path, manifests: list[Path]) -> None:
    page = languages.run(manifests, tmp_path / "out", SIZE)
    study = with_intervals(json.loads((tmp_path / "out" / "languages.json").read_text()))
    assert set(study["pairs"]["xx"]) == {"xx", "yy", "zz"}
    assert list(study["curve"]) == ["0.25", "0.5", "1"]
    assert len(study["speakers"]["yy"]) == 3
    assert study["listening_minutes"] >= 0
    text = page.read_text()
    assert "Trained on one language" in text
    area = study["curve"]["0.5"]["unseen"]["beside"]["ls_eam_adv"]["Area under the ROC curve"]
    assert str(area) in text.split("ROC curve:")[1]
    # Every speaker and emotion has its row with intervals.
    one = study["speakers"]["yy"]
    name, found = next(iter(one.items()))
    assert f"| yy, {name} | {found['plain']} |" in text
    workspace = Workspace(tmp_path / "out", manifests, SIZE)
    fold = held_out(workspace)["yy"]
    spoken = trials(
        workspace, [Job(fold, "plain", s) for s in range(2)], unseen(workspace, "yy", fold)
    )
    own = spoken.names == name
    by_hand = [balanced_accuracy_score(spoken.labels[own], row[own]) for row in spoken.predictions]
    assert found["plain"].mean == pytest.approx(np.mean(by_hand))
    emotion = study["emotions"][0]
    right = spoken.predictions[:, spoken.labels == 0] == 0
    assert study["recall"]["yy"][emotion]["plain"].mean == pytest.approx(right.mean())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.replace(",xx,", ",,"), "has no language"),
        (lambda text: text.replace("a,xx", ",xx"), "has no speaker"),
        (lambda text: text.replace("_0.wav", "_9.wav"), "no such audio file"),
        (lambda text: text.replace(",b,", ",a,").replace(",c,", ",a,"), "at least three speakers"),
        (lambda text: text.replace("sad,", "angry,"), "fewer than two"),
        (lambda text: text.replace(",xx", ",Xhosa"), "has the language 'Xhosa': name it by"),
        (lambda text: text.replace("sad,", "Glum,"), "has the label 'glum': name it one of"),
        (
            lambda text: text.replace("a_sad_0.wav,sad,a,xx", "a_sad_0.wav,sad,a,uu"),
            "speaks uu and",
        ),
    ],
)
def test_bad_manifests_say_what_is_wrong(
    tmp_path: Path, manifests: list[Path], spoil: Any, message: str
) -> None:
    file = manifests[0] / "manifest.csv"
    file.write_text(spoil(file.read_text()))
    with pytest.raises(UserError, match=message):
        Workspace(tmp_path / "out", manifests, SIZE)


def test_one_language_and_another_study_are_refused(tmp_path: Path, manifests: list[Path]) -> None:
    with pytest.raises(UserError, match="only the language xx"):
        read_recordings(manifests[:1])
    with pytest.raises(UserError, match="at least one manifest"):
        read_recordings([])
    with pytest.raises(UserError, match="named twice"):
        read_recordings([manifests[0], manifests[1], manifests[0]])
    assert {row.language for row in read_recordings(manifests, first=2)} == {"xx", "yy"}
    Workspace(tmp_path / "out", manifests, SIZE).claim()
    with pytest.raises(UserError, match="another --out"):
        Workspace(tmp_path / "out", manifests[:2], SIZE).claim()
    # Another sound under the same name is another study, and a silent one is none.
    where = manifests[0] / "a_sad_0.wav"
    sound, rate = soundfile.read(where)
    soundfile.write(where, np.zeros(8000), rate)
    with pytest.raises(UserError, match="another --out"):
        Workspace(tmp_path / "out", manifests, SIZE).claim()
    fresh = tmp_path / "fresh"
    with pytest.raises(UserError, match=r"a_sad_0\.wav is silent"):
        Workspace(fresh, manifests, SIZE).claim()
    # What was refused has claimed nothing: without the silence the same folder serves.
    soundfile.write(where, sound, rate)
    Workspace(fresh, manifests, SIZE).claim()


def test_what_belongs_to_no_class_is_heard_and_not_tested(
    tmp_path: Path, manifests: list[Path]
) -> None:
    file = manifests[0] / "manifest.csv"
    file.write_text(file.read_text().replace("a_sad_0.wav,sad", "a_sad_0.wav,other"))
    workspace = Workspace(tmp_path / "out", manifests, SIZE)
    assert workspace.left_out["other"] == 1
    number = next(i for i, row in enumerate(workspace.recordings) if row.emotion == "other")
    assert number not in workspace.labelled


def test_a_page_is_published_with_its_picture(tmp_path: Path) -> None:
    page = tmp_path / "out" / "ablation.md"
    page.parent.mkdir()
    page.write_text("# A page")
    page.with_suffix(".svg").write_text("<svg/>")
    assert publish(page, None) == page
    assert publish(page, tmp_path / "docs").read_text() == "# A page"
    assert (tmp_path / "docs" / "ablation.svg").read_text() == "<svg/>"
