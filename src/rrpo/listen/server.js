// Where answers go: the server of this page. `static.js` offers the same without one.
(function () {
  "use strict";

  class Refused extends Error {
    constructor(status, message) { super(message); this.status = status; }
  }

  async function ask(path, token, body) {
    const headers = {};
    if (token) { headers.Authorization = "Bearer " + token; }
    if (body) { headers["Content-Type"] = "application/json"; }
    const answer = await fetch(path, {
      method: body ? "POST" : "GET", headers: headers, body: body && JSON.stringify(body)
    });
    if (!answer.ok) { throw new Refused(answer.status, await answer.text()); }
    return answer;
  }

  window.keeper = {
    isStatic: false,
    asked: function () { return ""; },
    about: async function () { return (await ask("about")).json(); },
    join: async function (token, panelId) {
      return (await ask("join", null, { token: token, panel_id: panelId })).json();
    },
    progress: async function (token) {
      try {
        return await (await ask("progress", token)).json();
      } catch (error) {
        if (error.status === 403) { return null; }  // nobody yet
        throw error;
      }
    },
    sound: async function (token, id) {
      return (await ask("sounds/" + encodeURIComponent(id) + ".wav", token)).arrayBuffer();
    },
    answer: async function (token, answered) {
      try {
        return await (await ask("answer", token, answered)).json();
      } catch (error) {
        if (error.status !== 409) { throw error; }
        // It was answered before, as in another window: that one stays, and the test goes on.
        return (await ask("progress", token)).json();
      }
    }
  };
}());
