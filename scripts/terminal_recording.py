"""A command as its terminal shows it: an SVG that plays, without a script and without a network.

    python scripts/terminal_recording.py docs/demo.svg make demo

The command runs in a terminal of 80 columns; the clock above shows its own time, while waits are
cut to a second in the picture. Needs pyte (`pip install pyte`), which knows what a terminal does.
"""

import argparse
import fcntl
import itertools
import os
import pty
import select
import struct
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import pyte

COLUMNS, ROWS = 80, 30
EVERY = 0.25
"""Seconds between two looks at the screen."""
LONGEST_WAIT, SHORTEST = 1.0, 0.25
"""Seconds in the picture that a screen stays at most and at least, the last one apart."""
LAST = 8.0
MOST = 80
"""Screens in the picture; of more of them every other one, and so on."""
WIDE, HIGH, LEFT, TOP = 8.43, 18, 14, 44

Screen = tuple[str, ...]


def record(command: Sequence[str]) -> tuple[list[tuple[float, Screen]], int]:
    """Run a command; return its screens with the seconds since the start, and its exit code."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    child, descriptor = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm"
        os.execvp(command[0], list(command))
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    shown: list[tuple[float, Screen]] = [(0.0, (f"$ {' '.join(command)}",))]
    began = looked = time.monotonic()
    open_ = True
    while open_:
        if select.select([descriptor], [], [], EVERY)[0]:
            try:
                found = os.read(descriptor, 65536)
            except OSError:  # the command has ended
                found = b""
            open_ = bool(found)
            stream.feed(found)
            sys.stdout.buffer.write(found)
            sys.stdout.flush()
        now = time.monotonic()
        if now - looked >= EVERY or not open_:
            looked = now
            lines = (shown[0][1][0], *(line(screen.buffer[row]) for row in range(ROWS)))
            if lines != shown[-1][1]:
                shown.append((now - began, lines))
    return shown, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def line(characters: Mapping[int, pyte.screens.Char]) -> str:
    """Return a line of the screen; what is left of a bar, which is grey, as a thin one."""
    found = (characters[column] for column in range(COLUMNS))
    thin = ("─" if one.data == "━" and one.fg == "brightblack" else one.data for one in found)
    return "".join(thin).rstrip()


def svg(shown: Sequence[tuple[float, Screen]]) -> str:
    """Draw the screens as an SVG that plays again and again."""
    while len(shown) > MOST:
        shown = [*shown[:-1][::2], shown[-1]]
    starts = [0.0]
    for (before, _), (after, _) in itertools.pairwise(shown):
        starts.append(starts[-1] + min(max(after - before, SHORTEST), LONGEST_WAIT))
    whole = starts[-1] + LAST
    rows = max(len(lines) for _, lines in shown)
    while rows > 1 and not any(len(lines) >= rows and lines[rows - 1] for _, lines in shown):
        rows -= 1
    parts = []
    for row in range(rows):
        texts = [lines[row] if row < len(lines) else "" for _, lines in shown]
        parts += _pieces(texts, starts, whole, LEFT, TOP + HIGH * row, "")
    clocks = [f"{seconds // 60:.0f}:{seconds % 60:02.0f}" for seconds, _ in shown]
    width, height = COLUMNS * WIDE + 2 * LEFT, TOP + HIGH * rows
    parts += _pieces(clocks, starts, whole, width - LEFT, 20, ' text-anchor="end" fill="#a3a9b0"')
    last = "\n".join(line for line in shown[-1][1] if line)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">'
        f"<title>A terminal while the command runs; at the end it shows:\n{escape(last)}</title>"
        f'<rect width="100%" height="100%" rx="8" fill="#131517"/>'
        f'<rect width="0" height="0"><animate id="t" begin="0s;t.end" dur="{whole:.2f}s" '
        'attributeName="x" from="0" to="0"/></rect>'
        '<g font-family="ui-monospace,Menlo,Consolas,DejaVu Sans Mono,monospace" font-size="14" '
        f'fill="#e8e6e3" xml:space="preserve">{"".join(parts)}</g></svg>\n'
    )


def _pieces(
    texts: Sequence[str], starts: Sequence[float], whole: float, x: float, y: float, style: str
) -> list[str]:
    """Draw what a line shows in turn; a text that stays is drawn once."""
    parts, index = [], 0
    while index < len(texts):
        end = index + 1
        while end < len(texts) and texts[end] == texts[index]:
            end += 1
        if texts[index]:
            until = starts[end] if end < len(texts) else whole
            # Fixed columns, whatever font there is.
            size = "" if style else f' textLength="{len(texts[index]) * WIDE:.0f}"'
            shown = escape(texts[index]).replace(" ", "\u00a0")  # which are not run together
            hidden = ' visibility="hidden"' if (starts[index], until) != (0.0, whole) else ""
            when = f'begin="t.begin+{starts[index]:.2f}s" dur="{until - starts[index]:.2f}s"'
            parts.append(
                f'<text x="{x:.0f}" y="{y}"{style}{size}{hidden}>{shown}'
                f'<set attributeName="visibility" to="visible" {when}/></text>'
            )
        index = end
    return parts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the SVG")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    shown, code = record(asked.command)
    asked.out.write_text(svg(shown), encoding="utf-8")
    print(f"{asked.out}: {len(shown)} screens, {asked.out.stat().st_size // 1024} KB")
    return code


if __name__ == "__main__":
    sys.exit(main())
