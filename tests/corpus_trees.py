"""Tiny trees of published corpora, each in the layout of its release."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile


def wav(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(80), 16_000)
    return path


def write(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def make_esd(root: Path) -> None:
    """Speakers of both languages, label files in the encodings of the release, both releases."""
    for name in ("Angry/0001_000351", "Surprise/0001_001401"):
        wav(root / "0001" / f"{name}.wav")
    lines = "0001_000351\t打远一看，\t生气\r\n\r\n0001_001401\t打远一看，\t惊喜\r\n"
    write(root / "0001" / "0001.txt", lines, "gb2312")
    wav(root / "0009" / "Sad" / "evaluation" / "0009_001051.wav")
    wav(root / "0009" / "Neutral" / "train" / "0009_000030.wav")
    write(root / "0009" / "0009.txt", "0009_001051\t再见\t伤心\n", "utf-16")
    wav(root / "0016" / "Happy" / "test" / "0016_000721.wav")
    write(root / "0016" / "0016.txt", "0016_000721 It’s the café. Happy\n", "cp1252")
    write(root / "ReadMe.txt", "…")


def make_iemocap(root: Path) -> None:
    for number in (1, 4, 5):
        session, dialog = root / f"Session{number}", f"Ses0{number}F_impro01"
        turns = {"F000": "neu", "M000": "exc", "F001": "fru", "M001": "xxx", "F002": "ang"}
        labels, texts = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n"], []
        for at, (turn, emotion) in enumerate(turns.items()):
            name = f"{dialog}_{turn}"
            wav(session / "sentences" / "wav" / dialog / f"{name}.wav")
            span = f"[{at}.2901 - {at}.9000]"
            labels.append(f"{span}\t{name}\t{emotion}\t[2.5, 2.5, 2.5]\nC-E2:\tNeutral;\t()\n")
            texts.append(f"{name} [00{at}.2901-00{at}.9000]: [BREATHING] Excuse me {at}.\n")
        write(session / "dialog" / "EmoEvaluation" / f"{dialog}.txt", "\n".join(labels))
        write(session / "dialog" / "EmoEvaluation" / f"._{dialog}.txt", "\0\1")
        write(session / "dialog" / "EmoEvaluation" / "Categorical" / "e2.txt", "x")
        write(session / "dialog" / "transcriptions" / f"{dialog}.txt", "".join(texts))


def make_mer2023(root: Path) -> None:
    train = "name,discrete,valence\nsample_1,happy,1.0\nsample_2,worried,-1.0\n"
    write(root / "mer2023train" / "train-label.csv", train)
    write(root / "test-labels" / "test1-label.csv", "name,discrete,valence\nsample_3,surprise,2\n")
    write(root / "test-labels" / "test3-label.csv", "name,discrete\nsample_4,angry\n")
    write(root / "mer2023train" / "train" / "sample_1.avi", "video")
    for number in range(1, 5):
        wav(root / "audio" / f"sample_{number}.wav")


def make_ravdess(root: Path) -> None:
    for name in ("01-01-01-01", "02-01-01-01", "05-02-02-01", "08-01-02-02"):
        for actor in ("01", "05", "12"):
            wav(root / f"Actor_{actor}" / f"03-01-{name}-{actor}.wav")
    wav(root / "Actor_01" / "03-02-05-02-01-01-01.wav")


def make_emodb(root: Path) -> None:
    for name in ("03a01Fa", "11b10Wb", "16a04Lc", "16a05Ad", "13b02Na", "15a07Ea", "15b01Tb"):
        wav(root / "wav" / f"{name}.wav")
    write(root / "erklaerung.txt", "…")


def make_nemo(root: Path) -> None:
    header = "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
    lines = [
        ("WR0_surprised_64", 'Ucho "wykrywa dźwięki.', "        WR0"),
        ("IC0_fear_2", "Nie waśńmy się ze sobą.", "        IC0"),
        ("EB0_happiness_2", "Nie waśńmy się ze sobą.", "        EB0"),
    ]
    rows = []
    for name, text, speaker in lines:
        wav(root / "samples" / f"{name}.wav")
        emotion = name.split("_")[1]
        rows.append(f"{name}.wav\t{emotion}\t{text}\t{text.lower()}\t{speaker}\tmale\t23\n")
    write(root / "data.tsv", header + "".join(rows))


def make_cremad(root: Path) -> None:
    for name in ("1001_DFA_ANG_XX", "1002_IEO_SAD_LO", "1064_IEO_FEA_HI", "1091_WSI_NEU_XX"):
        wav(root / "AudioWAV" / f"{name}.wav")
    write(
        root / "VideoDemographics.csv", '"ActorID","Age","Sex"\n1001,51,"Male"\n1002,21,"Female"\n'
    )


def make_casia(root: Path) -> None:
    for speaker in ("liuchanhg", "wangzhe", "zhaoquanyin", "ZhaoZuoxiang"):
        for emotion in ("angry", "fear", "surprise"):
            wav(root / speaker / emotion / "201.wav")
    write(root / "readme.txt", "…")


def make_emotiontts_ko(root: Path) -> None:
    emotional = root / "Dataset" / "SpeechCorpus" / "Emotional"
    for kind, speaker in (("emotional-to-emotional", "nea"), ("plain-to-emotional", "emb")):
        for number in (1, 100, 101, 205, 400):
            name = f"{speaker}{number:05d}"
            wav(emotional / kind / speaker / "wav" / f"{name}.wav")
            write(emotional / kind / speaker / "transcript" / f"{name}.txt", f"대본 {number}\n")
    script = emotional / "emotional-to-emotional" / "nea" / "script" / "nea00001.txt"
    write(script, "심폐소생술 1.\n", "cp949")
    wav(root / "Dataset" / "SpeechCorpus" / "Main" / "adaptive" / "ada" / "wav" / "ada00001.wav")


MAKE: dict[str, Callable[[Path], None]] = {
    "esd": make_esd,
    "iemocap": make_iemocap,
    "mer2023": make_mer2023,
    "ravdess": make_ravdess,
    "emodb": make_emodb,
    "nemo": make_nemo,
    "cremad": make_cremad,
    "casia": make_casia,
    "emotiontts_ko": make_emotiontts_ko,
}
