"""Columns that name a part of a recording: whole files are read, so a part is refused."""

import re
from collections.abc import Mapping
from pathlib import Path

import soundfile

from rrpo.errors import UserError


def _spelt(*names: str) -> tuple[str, ...]:
    """Return names as tables write them: with blanks, and with a unit."""
    units = ("", "_s", "_sec", "_secs", "_seconds", "_ms", "_msec", "_sample", "_frame")
    plural = ("_samples", "_frames", " (s)", " (ms)")
    spelt = [name + unit for name in names for unit in (*units, *plural)]
    return tuple(dict.fromkeys([*spelt, *(one.replace("_", " ") for one in spelt)]))


STARTS = _spelt(
    *("start", "start_time", "begin", "begin_time", "onset", "offset", "segment_start"),
    *("time_start", "from", "xmin", "tmin", "t0", "sample_start", "frame_start", "start_offset"),
)
ENDS = _spelt(
    *("end", "end_time", "stop", "stop_time", "segment_end"),
    *("time_end", "to", "xmax", "tmax", "t1", "sample_end", "frame_end", "end_offset"),
)
LENGTHS = _spelt("duration", "dur", "length")
COLUMNS = (*STARTS, *ENDS, *LENGTHS)
"""What tables of other software call the place of an utterance in its recording."""
WHOLE = 0.1
"""Seconds by which a part may be shorter than its recording and is the whole."""


def require_whole(cells: Mapping[str, str], audio: Path, where: str) -> None:
    """Check that a row names its recording from the first sample to the last.

    Args:
        cells: those of the row, of the columns `COLUMNS` that are there.
        audio: the recording.
        where: begins the message.

    Raises:
        UserError: it names a part.
    """
    start, end, length = (
        next((cells[name] for name in names if cells.get(name)), "")
        for names in (STARTS, ENDS, LENGTHS)
    )
    if not start or re.fullmatch(r"na[tn]", start.casefold()):
        return  # a length alone tells of the recording
    if not re.match(r"\+?[\d.]", start):
        return  # such as a column `from` that names where the recording was got
    part = bool(re.search("[1-9]", start))
    if not part and (end or length):
        last = _seconds(end or length)
        try:
            seconds = float(soundfile.info(audio).duration)
        except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError):
            return  # it is judged where sounds are
        # In milliseconds or samples the end of the whole is a number of thousands.
        part = last is not None and last < seconds - WHOLE
    if part:
        shown = f"{start} to {end}" if end else f"{start}, {length} long" if length else start
        raise UserError(
            f"{where}: it names a part of {audio.name} ({shown}), and recordings are read whole: "
            "cut the parts into files of their own, as with `ffmpeg -ss START -to END -i IN OUT`, "
            "or rename the columns if they mean something else"
        )


def _seconds(text: str) -> float | None:
    """Return the seconds of a time, None where it is none.

    Examples:
        >>> _seconds("1.5"), _seconds("0 days 00:01:02.5"), _seconds("NaT")
        (1.5, 62.5, None)
    """
    match = re.fullmatch(r"(?:0 days )?((?:[0-9]+:){0,2})([0-9]+(?:[.,][0-9]+)?) ?s?", text)
    if not match:
        return None
    seconds = float(match[2].replace(",", "."))
    for place, part in enumerate(reversed(match[1].split(":")[:-1]), start=1):
        seconds += 60**place * int(part)
    return seconds
