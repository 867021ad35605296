"""The scripts of the listener's page, without a browser: where answers and listeners are kept."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import rrpo.listen

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs node")
FOLDER = Path(rrpo.listen.__file__).parent
WORLD = """
const kept = new Map();
global.localStorage = {
  getItem: name => kept.has(name) ? kept.get(name) : null,
  setItem: (name, text) => kept.set(name, text), removeItem: name => kept.delete(name)
};
global.location = { search: "" };
global.document = { getElementById: () => ({ replaceChildren: () => {}, firstChild: null }) };
global.window = global;
window.sounds = { make: () => ({}) };
const test = { design: "d", title: "t", panel: null, url: null, questions: [],
  pages: { p: { id: "p" } }, orders: [["p"], ["p"]] };
const load = name => require("vm").runInThisContext(require("fs").readFileSync(name, "utf8"));
"""


def run(program: str, *scripts: str) -> Any:
    """Load scripts, run an asynchronous program, and return what it returns."""
    loaded = "".join(f"load({json.dumps(str(FOLDER / name))});" for name in scripts)
    assert NODE is not None
    done = subprocess.run(
        [NODE, "-e", f"{WORLD}{loaded}(async () => {{{program}}})()"
         ".then(one => console.log(JSON.stringify(one)));"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.parametrize("search", ["?order=0", "?order=3", "?order=-1", "?order=", "?order=1.5"])
def test_an_order_that_is_not_there_is_refused_in_a_line(search: str) -> None:
    said = run(
        f"global.fetch = async () => ({{ok: true, json: async () => test}});"
        f"location.search = {search!r}; return (await keeper.about()).refusal;",
        "static.js",
    )
    assert said.startswith("This address asks for order") and "orders 1 to 2" in said
    assert "\n" not in said


def test_pages_of_different_orders_are_kept_apart() -> None:
    found = run(
        """
        global.fetch = async () => ({ok: true, json: async () => test});
        const told = await keeper.about();
        lasting.of(told);
        const tokens = {"": "0".repeat(32), "?order=1": "1".repeat(32), "?order=2": "2".repeat(32)};
        const before = {}, orders = {}, after = {};
        for (const [search, token] of Object.entries(tokens)) {
          location.search = search;
          before[search] = lasting.ownToken();
          lasting.rememberToken(token);
          await keeper.join(token, null);
          const name = "rrpo-listen d results " + token.slice(0, 20);
          orders[search] = JSON.parse(localStorage.getItem(name)).order;
        }
        for (const search of Object.keys(tokens)) {
          location.search = search;
          after[search] = lasting.ownToken() === tokens[search];
        }
        return [told.refusal === undefined, before, orders, after];
        """,
        "static.js",
        "lasting.js",
    )
    valid, before, orders, after = found
    assert valid and set(before.values()) == {None} and set(after.values()) == {True}
    assert (orders["?order=1"], orders["?order=2"]) == (0, 1)


def test_a_page_that_was_answered_before_counts_as_kept_and_the_test_goes_on() -> None:
    found = run(
        """
        const asked = [];
        global.fetch = async path => {
          asked.push(path);
          return path === "answer"
            ? {ok: false, status: 409, text: async () => "answered before"}
            : {ok: true, json: async () => ({answered: ["p"], finished: true})};
        };
        return [await keeper.answer("token", {page: "p"}), asked];
        """,
        "server.js",
    )
    assert found == [{"answered": ["p"], "finished": True}, ["answer", "progress"]]


def test_another_refusal_of_an_answer_is_told() -> None:
    status = run(
        """
        global.fetch = async () => ({ok: false, status: 400, text: async () => "no"});
        try { await keeper.answer("token", {page: "p"}); } catch (error) { return error.status; }
        """,
        "server.js",
    )
    assert status == 400
