// The way through a test: welcome, headphones and volume, its pages, the end.
(function () {
  "use strict";
  const keeper = window.keeper;
  const make = window.sounds.make;
  const { paragraph, button } = window.parts;
  const place = document.getElementById("place");
  const { recall, remember, insist, complain, panelId } = window.lasting;
  const keys = document.getElementById("keys");
  const KEPT = "Kept are your answers, how long each page took you and how often you played its " +
    "sounds, under a random number that stands for you.";
  let about = null;
  let token = null;
  let state = null;  // what `progress` told: test, answered, at the end code and url
  let onKey = null;

  // ---- the frame of every page

  function show(kicker, title, ...content) {
    onKey = null;
    const heading = make("h1", title);
    heading.tabIndex = -1;
    place.replaceChildren(make("header", paragraph(kicker, "kicker"), heading), ...content);
    window.scrollTo(0, 0);
    heading.focus({ preventScroll: true });
    keys.closest("label").hidden = true;
    return heading;
  }

  function refuse(text) { show("Listening test", about.title, paragraph(text, "notice")); }

  document.addEventListener("keydown", function (event) {
    const typing = event.target.matches("input[type=text]");
    if (onKey && keys.checked && !typing && !event.altKey && !event.ctrlKey && !event.metaKey) {
      onKey(event);
    }
  });

  // ---- welcome

  function welcome() {
    const asked = panelId();
    const kept = KEPT + (about.panel ? " So is the " + about.panel + " of this address." : "") +
      " Nothing else is: no name, no address, no time of day." +
      (keeper.isStatic ? " They stay in this browser until you send the file with them." : "");
    const start = button("I agree: begin", begin, true);
    const content = about.instructions.map(function (text) { return paragraph(text, "said"); });
    content.push(paragraph("The test has " + about.length + " pages. You can stop at any time and go " +
      "on later in this browser.", ""));
    if (about.panel && (asked ? !window.lasting.isPanelId(asked) : !about.invited)) {
      const wrong = asked ? " has no usable " + about.panel + " (" + asked.slice(0, 40) + ")" : " lacks your " + about.panel;
      refuse("This address" + wrong + ": open the test by the panel’s own link again, or write to the organiser.");
      return;
    }
    const consent = make("section", make("h2", "What is kept"), paragraph(kept));
    consent.className = "consent";
    show("Listening test", about.title, ...content, consent, make("p", start));

    async function begin() {
      start.disabled = true;
      token = token || window.lasting.drawToken();
      window.lasting.rememberToken(token);  // before it is sent, so that a lost answer makes no second listener
      try {
        state = await insist(function () { return keeper.join(token, asked); }, "It is tried again.");
      } catch (error) {
        start.disabled = false;
        return;
      }
      keepAddress();
      prepare();
    }
  }

  // The address goes on to be the listener's own. What a panel wrote into it stays, for whoever
  // loads the page again is the same participant.
  function keepAddress() {
    if (!keeper.isStatic) {
      history.replaceState(null, "", location.pathname + location.search + "#" + token);
    }
  }

  // ---- headphones and volume

  function deletable() {
    return make("p", "To have your answers deleted, write to the organiser and name ", make("code", state.listener), ".");
  }

  function left() {
    return state.test.pages.filter(function (one) { return !state.answered.includes(one.id); });
  }

  function prepare() {
    if (!left().length) { finish(); return; }
    const first = state.test.pages.find(function (one) { return one.sounds.length; });
    const count = state.answered.length;
    const go = button(count ? "Go on" : "Begin", function () {
      if (player) { player.leave(); }
      ask(left()[0]);
    }, true);
    const steps = make("ol",
      make("li", "Put on headphones, and sit where it is quiet."),
      make("li", "Play the sound below, and set the volume so that you hear it well and it is not loud."),
      make("li", "Leave the volume as it is from then on."));
    steps.className = "steps";
    const content = [steps];
    const player = first ? new window.sounds.Player(token, first.sounds[0].id, "To set the volume") : null;
    if (player) {
      go.disabled = true;
      player.listeners.push(function () { go.disabled = !player.heard; });
      content.push(player.element);
    }
    if (count) {
      content.push(paragraph("You have answered " + count + " of " + state.test.pages.length + " pages.", ""), deletable());
    }
    show("Listening test", count ? "Welcome back" : "Headphones and volume", ...content, make("p", go));
    onKey = function (event) {
      if (player && playKey(event)) { player.toggle(); }
    };
  }

  function playKey(event) { return (event.key === "p" || event.key === "P") && !event.repeat; }

  // ---- a page of the test

  function ask(page) {
    const begun = performance.now();
    const called = window.sounds.names(page.sounds.length);
    const players = page.sounds.map(function (sound, index) {
      return new window.sounds.Player(token, sound.id, called[index]);
    });
    const form = make("form");
    form.noValidate = true;
    const told = paragraph("", "told");
    told.setAttribute("role", "status");
    const next = make("button", "Next");
    next.type = "submit";
    next.className = "main";
    let turns = null;
    const questions = page.questions.map(function (name) {
      const asked = state.test.questions.find(function (one) { return one.name === name; });
      const changed = function () {
        told.textContent = "";
        if (turns) { turns.answered(); }
      };
      return window.makeQuestion(asked, changed, page, players);
    });
    turns = new window.Turns(form, questions);
    keys.nextElementSibling.textContent = "Number keys answer" +
      (questions.length > 1 ? ", one question after the other; Tab goes to another" : "");
    const heard = function () { return players.every(function (one) { return one.heard; }); };
    let open = null;
    const check = function () {
      if (open === heard()) { return; }
      open = heard();
      questions.forEach(function (one) { one.enable(open); });
      told.textContent = open ? "" : players.length > 1
        ? "Play each sound to its end, then answer." : players.length ? "Play the sound to its end, then answer." : "";
    };
    players.forEach(function (one) { one.listeners.push(check); });

    const content = [];
    if (page.note) { content.push(paragraph(page.note, "note")); }
    if (page.text) { content.push(make("blockquote", page.text)); }
    if (page.emotion) {
      content.push(make("p", "It is to sound ", make("strong", page.emotion), "."));
      content[content.length - 1].className = "meant";
    }
    const row = make("div", ...players.map(function (one) { return one.element; }));
    row.className = "sounds";
    form.append(row, ...questions.map(function (one) { return one.element; }), told, make("p", next));
    const heading = show("", page.training ? "Training" : "Listen and answer", ...content, form);
    heading.closest("header").prepend(window.parts.progress(state.test.pages, page));
    keys.closest("label").hidden = false;
    check();
    const following = left()[1];
    if (following) {
      Promise.all(players.map(function (one) { return one.ready; })).then(function () {
        window.sounds.expect(token, following.sounds.map(function (one) { return one.id; }));
      });
    }

    onKey = function (event) {
      if (playKey(event)) {
        const waiting = players.find(function (one) { return !one.heard; }) || players[0];
        if (waiting) { waiting.toggle(); }
        return;
      }
      if (open) { turns.key(event); }
    };

    form.addEventListener("submit", async function (event) {
      event.preventDefault();
      const missing = heard() ? questions.find(function (one) { return one.value() === null; }) : null;
      if (!heard()) {
        told.textContent = "Not every sound was heard to its end yet.";
        players.find(function (one) { return !one.heard; }).button.focus();
        return;
      }
      if (missing) {
        told.textContent = "Please answer: " + missing.asked.prompt;
        missing.focus();
        return;
      }
      const values = {};
      questions.forEach(function (one) { values[one.asked.name] = one.value(); });
      const answered = {
        page: page.id,
        values: values,
        seconds: Math.round(performance.now() - begun) / 1000,
        plays: players.reduce(function (sum, one) { return sum + one.plays; }, 0)
      };
      next.disabled = true;
      questions.forEach(function (one) { one.enable(false); });
      onKey = null;
      try {
        await send(answered);
      } catch (error) {
        return;  // `insist` has said why
      }
      players.forEach(function (one) { one.leave(); });
      window.sounds.forget(page.sounds.map(function (one) { return one.id; }));
      go();
    });
  }

  // What is not acknowledged yet outlives a reload.
  async function send(answered) {
    remember("waiting " + token, JSON.stringify(answered));
    const end = await insist(function () { return keeper.answer(token, answered); },
      "Your answer is kept in this browser and sent again by itself.");
    remember("waiting " + token, null);
    state.answered.push(answered.page);
    Object.assign(state, end);
  }

  async function sendWaiting() {
    const waiting = JSON.parse(recall("waiting " + token) || "null");
    if (waiting && !state.answered.includes(waiting.page)) {
      const known = state.test.pages.some(function (one) { return one.id === waiting.page; });
      if (known) { await send(waiting); }
    }
    remember("waiting " + token, null);
  }

  function go() {
    const page = left()[0];
    if (page) { ask(page); } else { finish(); }
    if (keeper.isStatic && keeper.forgets()) {
      complain("This browser keeps nothing: take your results before you close the page.",
        keeper.download, "Take them now");
    }
  }

  // ---- the end

  function finish() {
    const content = [];
    if (keeper.isStatic) {
      content.push(paragraph("Take the file with your answers, and send it to the organiser. Without it nothing arrives.", "said"),
        make("p", button("Take the results file", keeper.download, true)));
    } else {
      content.push(paragraph("All your answers have arrived.", "said"));
    }
    if (state.code) {
      const code = paragraph(state.code, "code");
      code.id = "code";
      content.push(make("h2", "Your completion code"), code);
    }
    if (state.url && /^https?:\/\//i.test(state.url)) {
      const link = make("a", "Go back to the panel");
      link.href = state.url;
      link.rel = "noreferrer";
      content.push(make("p", link));
    }
    if (!state.url) { content.push(paragraph("You can close this page.", "")); }
    content.push(deletable());
    show("Listening test", "Thank you", ...content);
  }

  async function open() {
    try {
      about = await insist(function () { return keeper.about(); }, "It is tried again.");
      window.lasting.of(about);
      document.title = about.title;
      if (about.refusal) { refuse(about.refusal); return; }
      keys.checked = recall("keys") !== "off";
      keys.addEventListener("change", function () {
        remember("keys", keys.checked ? "on" : "off");
        document.body.classList.toggle("no-keys", !keys.checked);
      });
      document.body.classList.toggle("no-keys", !keys.checked);
      const own = location.hash.slice(1);
      token = /^[0-9a-f]{32}$/.test(own) ? own : window.lasting.ownToken();
      state = token && await insist(function () { return keeper.progress(token); }, "It is tried again.");
      if (!state) {
        if (about.invited && !token) {
          refuse("You need a link of your own for this test: ask the organiser for it.");
          return;
        }
        welcome();
        return;
      }
      if (about.panel && panelId() && state.panel_id && state.panel_id !== panelId()) {
        refuse("This link is another participant’s: open the test by the panel’s own link again.");
        return;
      }
      window.lasting.rememberToken(token);
      keepAddress();
      await sendWaiting();
      prepare();
    } catch (error) {
      if (!window.lasting.isTroubled()) { complain(error.message); }
    }
  }

  if (keeper.isStatic) {
    const take = button("Take what you have answered so far", function () { keeper.download(); });
    const part = make("p", take);
    part.id = "so-far";
    part.hidden = true;
    keys.closest("footer").append(part);
    new MutationObserver(function () { part.hidden = !keeper.count() || !onKey; })
      .observe(place, { childList: true });
  }
  open();
}());
