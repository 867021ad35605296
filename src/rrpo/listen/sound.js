// Sounds that are fetched once, played to their end, one at a time.
(function () {
  "use strict";
  const fetched = new Map();
  let playing = null;

  function make(name, ...inside) {
    const element = document.createElement(name);
    element.append(...inside);
    return element;
  }

  function bytes(token, id) {
    if (!fetched.has(id)) {
      const coming = window.keeper.sound(token, id);
      coming.catch(function () { fetched.delete(id); });  // it is asked for again
      fetched.set(id, coming);
    }
    return fetched.get(id);
  }

  // A button that plays a sound, and a line that shows how far it is.
  class Player {
    constructor(token, id, name) {
      this.token = token;
      this.id = id;
      this.name = name;
      this.plays = 0;
      this.heard = false;  // once from beginning to end
      this.whole = false;
      this.listeners = [];
      this.audio = new Audio();
      this.button = make("button");
      this.button.type = "button";
      this.button.className = "play";
      this.line = make("progress");
      this.line.max = 1;
      this.line.value = 0;
      this.line.setAttribute("aria-hidden", "true");
      this.told = make("span", "loading …");
      this.told.className = "heard";
      this.told.setAttribute("role", "status");
      const words = make("div", make("b", name), this.told, this.line);
      words.className = "words";
      this.element = make("div", this.button, words);
      this.element.className = "sound";
      this.button.addEventListener("click", () => this.toggle());
      this.audio.addEventListener("ended", () => this.ended());
      this.audio.addEventListener("error", () => this.tell("this sound cannot be played here"));
      this.show();
      this.button.disabled = true;
      this.ready = this.load();
    }

    async load() {
      for (let wait = 1; ; wait = Math.min(30, wait * 2)) {
        try {
          this.bytes = await bytes(this.token, this.id);
          break;
        } catch (error) {
          const lost = !error.status || error.status === 429 || error.status >= 500;
          this.tell(lost ? "no connection: trying again …" : error.message);
          if (!lost) { return; }
          await new Promise(function (done) { setTimeout(done, wait * 1000); });
        }
      }
      this.audio.src = URL.createObjectURL(new Blob([this.bytes], { type: "audio/wav" }));
      this.button.disabled = false;
      this.tell("not heard yet");
    }

    tell(text) { this.told.textContent = text; }

    show() {
      const on = playing === this;
      this.element.classList.toggle("playing", on);
      this.button.setAttribute("aria-label", (on ? "Stop: " : "Play: ") + this.name);
    }

    toggle() {
      if (playing === this) { this.stop(); } else { this.play(0); }
    }

    play(from) {
      if (this.button.disabled) { return; }
      if (playing) { playing.stop(); }
      playing = this;
      this.plays += 1;
      this.whole = from === 0;
      this.audio.currentTime = from;
      this.audio.play().catch(() => { this.stop(); this.tell("it could not be played: try again"); });
      this.show();
      const step = () => {
        if (playing !== this) { return; }
        const length = this.audio.duration || 1;
        this.line.value = Math.min(1, this.audio.currentTime / length);
        this.listeners.forEach(function (one) { one(); });
        requestAnimationFrame(step);
      };
      step();
    }

    stop() {
      if (playing === this) { playing = null; }
      this.audio.pause();
      this.line.value = 0;
      this.show();
      this.listeners.forEach(function (one) { one(); });
    }

    ended() {
      const whole = this.whole;
      this.stop();
      if (!whole) { return; }
      this.heard = true;
      this.element.classList.add("done");
      this.tell("heard");
      this.listeners.forEach(function (one) { one(); });
    }

    place() { return playing === this ? this.audio.currentTime : null; }

    leave() {
      this.stop();
      this.listeners = [];
      if (this.audio.src) { URL.revokeObjectURL(this.audio.src); this.audio.removeAttribute("src"); }
    }
  }

  function names(count) {
    if (count === 1) { return ["Sound"]; }
    return ["First sound", "Second sound"].concat(Array.from({ length: count }, function (_, index) {
      return "Sound " + (index + 3);
    })).slice(0, count);
  }

  window.sounds = {
    Player: Player,
    make: make,
    names: names,
    expect: function (token, ids) {  // so that the next page need not wait
      ids.forEach(function (id) { bytes(token, id).catch(function () {}); });
    },
    forget: function (ids) { ids.forEach(function (id) { fetched.delete(id); }); }
  };
}());
