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

  window.keeper = {
    isStatic: true,
    about: async function () {
      test = await (await read("test.json")).json();
      return test;
    },
    join: async function (token, panelId) {
      // A numbered link, index.html?order=3, spreads listeners evenly; without one, chance does.
      const asked = Number(new URLSearchParams(location.search).get("order"));
      const count = test.orders.length;
      const given = Number.isInteger(asked) && asked >= 1;
      results = {
        format: 1,
        design: test.design,
        listener: token.slice(0, 20),
        order: given ? (asked - 1) % count : Math.floor(Math.random() * count),
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
      if (!results.pages.some(function (one) { return one.page === answered.page; })) {
        results.pages.push(answered);
      }
      keep();
      return end();
    },
    forgets: function () { return forgetful; },
    count: function () { return results ? results.pages.length : 0; },
    download: function () {
      const link = document.createElement("a");
      const text = JSON.stringify(results, null, 1) + "\n";
      link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
      link.download = "ratings-" + results.listener + ".json";
      link.click();
      setTimeout(function () { URL.revokeObjectURL(link.href); }, 60000);
    }
  };
}());
