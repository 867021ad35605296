// What outlives a reload and a lost connection.
(function () {
  "use strict";
  const make = window.sounds.make;
  const trouble = document.getElementById("trouble");
  let design = "";  // so that two tests at one address keep apart
  let panel = null;

  // ---- what this browser remembers

  const memory = new Map();
  function name(what) { return "rrpo-listen " + design + " " + what; }
  function recall(what) {
    try { return localStorage.getItem(name(what)); } catch (error) { return memory.get(what) || null; }
  }
  function remember(what, text) {
    memory.set(what, text);
    try {
      if (text === null) { localStorage.removeItem(name(what)); } else { localStorage.setItem(name(what), text); }
    } catch (error) {
      return;  // it stays in the memory of this page
    }
  }

  // ---- who takes the test: of a panel, another participant in this browser is another listener

  // What the panel calls who opened this address.
  function panelId() {
    return panel && new URLSearchParams(location.search).get(panel) || null;
  }

  function drawToken() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, function (one) { return one.toString(16).padStart(2, "0"); }).join("");
  }

  // Pages of different orders at one address are taken by different listeners.
  function ownToken() {
    return recall((panelId() ? "token " + panelId() : "token") + window.keeper.asked());
  }

  function rememberToken(token) {
    const asked = window.keeper.asked();
    remember("token" + asked, token);
    if (panelId()) { remember("token " + panelId() + asked, token); }
  }

  // ---- trouble with the server

  function isPassing(error) {
    return !error.status || error.status === 429 || error.status >= 500;
  }

  function complain(text, act, called) {
    const box = make("div", make("p", text));
    box.className = "notice";
    if (act) {
      const button = make("button", called);
      button.type = "button";
      button.addEventListener("click", act);
      box.append(button);
    }
    trouble.replaceChildren(box);
    box.scrollIntoView({ block: "nearest" });
  }

  // Do what may fail for a while, again and again; say so meanwhile.
  async function insist(work, meanwhile) {
    for (let wait = 1; ; wait = Math.min(30, wait * 2)) {
      try {
        const done = await work();
        trouble.replaceChildren();
        return done;
      } catch (error) {
        if (!isPassing(error)) {
          complain(error.message, function () { location.reload(); }, "Load the page again");
          throw error;
        }
        await new Promise(function (again) {
          const timer = setTimeout(again, wait * 1000);
          const now = function () {
            clearTimeout(timer);
            window.removeEventListener("online", now);
            again();
          };
          window.addEventListener("online", now);
          complain(error.status ? error.message + " " + meanwhile
            : "There is no connection to the test’s server. " + meanwhile, now, "Try now");
        });
      }
    }
  }

  window.lasting = {
    of: function (about) { design = about.design; panel = about.panel; },
    panelId: panelId, drawToken: drawToken, ownToken: ownToken, rememberToken: rememberToken,
    isPanelId: function (text) { return /^[A-Za-z0-9_-]{1,100}$/.test(text); },
    recall: recall, remember: remember, insist: insist, complain: complain,
    isTroubled: function () { return trouble.firstChild !== null; }
  };
}());
