// Where answers go without a server: this browser's storage, and a file that is handed in.
(function () {
  "use strict";
  let test = null;
  let results = null;  // as the file has them
  let forgetful = false;

  async function read(path) {
    const answer = await fetch(path);
    if (!answer.ok) {
      const error = new Error("the file " + path + " is missing here: please tell the organiser");
      error.status = answer.status;
      throw error;
    }
    return answer;
  }

  // By listener, for several may take the test in one browser.
  function key(listener) { return "rrpo-listen " + test.design + " results " + listener; }

  function keep() {
    try {
      localStorage.setItem(key(results.listener), JSON.stringify(results));
    } catch (error) {
      forgetful = true;
    }
  }

  function stored(listener) {
    try {
      return JSON.parse(localStorage.getItem(key(listener)));
    } catch (error) {
      return null;
    }
  }

  // Of what another tab has kept since, nothing may be lost: pages are only ever added.
  function joined() {
    const kept = stored(results.listener);
    if (!kept || kept.design !== results.design || kept.order !== results.order) { return; }
    kept.pages.forEach(function (one) {
      if (!results.pages.some(function (own) { return own.page === one.page; })) {
        results.pages.push(one);
      }
    });
  }

  function end() {
    return results.pages.length === test.orders[results.order].length
      ? { finished: true, code: null, url: test.url } : {};
  }

  function progress() {
    const pages = test.orders[results.order].map(function (id) { return test.pages[id]; });
    return Object.assign({
      test: { title: test.title, questions: test.questions, pages: pages },
      listener: results.listener,
      panel_id: results.panel_id,
      answered: results.pages.map(function (one) { return one.page; })
    }, end());
  }

  // A numbered link, index.html?order=3, spreads listeners evenly; without one, chance does.
  function numbered() { return new URLSearchParams(location.search).get("order"); }

  window.keeper = {
    isStatic: true,
    // What tells listeners of this browser apart, beside what a panel calls them.
    asked: function () { return numbered() === null ? "" : " order " + Number(numbered()); },
    about: async function () {
      test = await (await read("test.json")).json();
      const order = numbered();
      if (order !== null && !(/^[0-9]+$/.test(order) && order >= 1 && order <= test.orders.length)) {
        test.refusal = "This address asks for order " + order.slice(0, 20) + ", and the test has orders 1 to " +
          test.orders.length + ": correct the address, or ask the organiser for another.";
      }
      return test;
    },
    join: async function (token, panelId) {
      const order = numbered();
      results = {
        format: 1,
        design: test.design,
        listener: token.slice(0, 20),
        order: order === null ? Math.floor(Math.random() * test.orders.length) : order - 1,
        panel_id: panelId,
        pages: []
      };
      keep();
      return progress();
    },
    progress: async function (token) {
      results = results || stored(token.slice(0, 20));
      return results && results.design === test.design ? progress() : null;
    },
    sound: async function (token, id) {
      return (await read("sounds/" + encodeURIComponent(id) + ".wav")).arrayBuffer();
    },
    answer: async function (token, answered) {
      joined();
      if (!results.pages.some(function (one) { return one.page === answered.page; })) {
        results.pages.push(answered);
      }
      keep();
      return end();
    },
    forgets: function () { return forgetful; },
    count: function () { return results ? results.pages.length : 0; },
    download: function () {
      joined();
      const link = document.createElement("a");
      const text = JSON.stringify(results, null, 1) + "\n";
      link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
      link.download = "ratings-" + results.listener + ".json";
      link.click();
      setTimeout(function () { URL.revokeObjectURL(link.href); }, 60000);
    }
  };
}());
