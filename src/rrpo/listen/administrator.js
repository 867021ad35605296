// The administrator's page: counts that stay current, export, deletion. The secret stands behind
// the # of the address, which is sent nowhere by itself.
(function () {
  "use strict";
  const secret = location.hash.slice(1);
  const told = document.getElementById("told");
  const ROLES = {
    training: "training", test: "test", repeat: "repeated", reference: "hidden reference",
    anchor: "low anchor", attention: "attention check"
  };
  let asked = null;  // the listener whose deletion is to be confirmed
  let failed = false;  // whether the last refresh was

  function byId(id) { return document.getElementById(id); }

  function make(name, ...inside) {
    const element = document.createElement(name);
    element.append(...inside);
    return element;
  }

  async function ask(path, body) {
    const headers = { Authorization: "Bearer " + secret };
    if (body) { headers["Content-Type"] = "application/json"; }
    const answer = await fetch("administrator/" + path, {
      method: body ? "POST" : "GET", headers: headers, body: body && JSON.stringify(body)
    });
    if (!answer.ok) { throw new Error(await answer.text()); }
    return answer;
  }

  // What has the focus keeps it when the tables are made again.
  function refocused(change) {
    const key = document.activeElement && document.activeElement.dataset.key;
    change();
    if (key && document.activeElement === document.body) {
      const same = Array.from(document.querySelectorAll("button")).find(function (one) {
        return one.dataset.key === key;
      });
      if (same) { same.focus(); }
    }
  }

  function fill(table, titles, rows) {
    const head = make("thead", make("tr", ...titles.map(function (text) {
      const cell = make("th", text);
      cell.scope = "col";
      return cell;
    })));
    const body = make("tbody", ...rows.map(function (cells) {
      return make("tr", ...cells.map(function (cell, index) {
        const made = make(index ? "td" : "th", cell);
        if (!index) { made.scope = "row"; }
        made.dataset.title = titles[index];  // before it, where a narrow screen stacks the cells
        return made;
      }));
    }));
    table.replaceChildren(head, body);
  }

  function button(text, key, act) {
    const one = make("button", text);
    one.type = "button";
    one.dataset.key = key;
    one.addEventListener("click", act);
    return one;
  }

  function deletion(listener) {
    if (asked !== listener.id) {
      const first = button("Delete …", "delete " + listener.id, function () {
        asked = listener.id;
        refresh().then(function () { byId("keep").focus(); });
      });
      first.setAttribute("aria-label", "Delete listener " + listener.id);
      return first;
    }
    const keep = button("Keep", "keep", function () { asked = null; refresh(); });
    keep.id = "keep";
    const remove = button("Delete for good", "remove", async function () {
      let line = "Listener " + listener.id + " was deleted with all answers.";
      try {
        await ask("delete", { listener: listener.id, confirm: listener.id });
      } catch (error) {
        line = error.message;
      }
      asked = null;
      await refresh();
      told.textContent = line;
    });
    remove.className = "danger";
    return make("span", keep, " ", remove);
  }

  async function refresh() {
    let state;
    try {
      state = await (await ask("state")).json();
    } catch (error) {
      told.textContent = error instanceof TypeError ? "no answer: is the server still running?" : error.message;
      failed = true;
      return;
    }
    if (failed) { told.textContent = ""; }  // other lines stay until the next
    failed = false;
    byId("title").textContent = state.title;
    ["started", "finished", "answered"].forEach(function (one) { byId(one).textContent = state[one]; });
    refocused(function () {
      fill(byId("listeners"), ["Listener", "Order", state.panel || "", "Answered", "", ""],
        state.listeners.map(function (one) {
          return [one.id, one.order + 1, one.panel_id || "", one.answered + " of " + one.pages,
            one.finished ? "finished" : "", deletion(one)];
        }));
    });
    fill(byId("pages"), ["Page", "Kind", "Emotion", "Answered by"], state.pages.map(function (one) {
      return [one.id, ROLES[one.role], one.emotion || "", one.answered];
    }));
    byId("state").hidden = false;
  }

  function offer(kind) {
    byId(kind).addEventListener("click", async function () {
      try {
        const link = make("a");
        link.href = URL.createObjectURL(await (await ask("ratings." + kind)).blob());
        link.download = "ratings." + kind;
        link.click();
        setTimeout(function () { URL.revokeObjectURL(link.href); }, 60000);
      } catch (error) {
        told.textContent = error.message;
      }
    });
  }

  offer("csv");
  offer("json");
  refresh();
  setInterval(function () { if (asked === null && !document.hidden) { refresh(); } }, 5000);
}());
