"""What the documentation shows works: Python examples run, commands exist, links lead somewhere."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from command_line import python
from places import ROOT

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "research").glob("*.md")),
]


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language in a page."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


EXAMPLES = [(page, code) for page in PAGES for code in blocks(page, "python")]
COMMANDS = sorted(
    {
        line.strip()
        for page in PAGES
        for block in blocks(page, "sh")
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip().startswith("rrpo ")
    }
)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "code"), EXAMPLES, ids=lambda value: getattr(value, "name", ""))
def test_python_examples_run(page: Path, code: str, tmp_path: Path) -> None:  # noqa: ARG001
    python(code, tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_and_their_options_exist(command: str) -> None:
    """Every subcommand and option a page shows is in the help of that command."""
    from typer.main import get_command

    from rrpo.cli import app

    words = command.split(" #")[0].split()[1:]
    group = get_command(app)
    while words and not words[0].startswith("-") and hasattr(group, "commands"):
        name = words.pop(0)
        assert name in group.commands, f"{command}: no command {name}"
        group = group.commands[name]
    options = {option for parameter in group.params for option in parameter.opts} | {"--help"}
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0] in options, f"{command}: no option {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_tests_that_a_page_names_are_there() -> None:
    text = (ROOT / "research" / "inputs.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", text)
    assert len(named) > 40
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), name


SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_import_what_is_there(script: Path) -> None:
    """They are run rarely, and some need packages that are not installed here."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "rrpo":
            module = importlib.import_module(str(node.module))
            for one in node.names:
                if not hasattr(module, one.name):
                    importlib.import_module(f"{node.module}.{one.name}")


@pytest.mark.slow
def test_the_memory_table_is_what_its_script_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    budget = importlib.import_module("budget")
    budget.print_memory(budget.Setting(width=2), 8)
    assert capsys.readouterr().out in (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
