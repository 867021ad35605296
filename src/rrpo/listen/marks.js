// Places marked on the waveform of a sound, by pointer or by keys.
(function () {
  "use strict";
  const make = window.sounds.make;
  const MOST = 200;

  function button(text, act) {
    const one = make("button", text);
    one.type = "button";
    one.addEventListener("click", act);
    return one;
  }

  // The largest and the least value of each of `count` parts of a sound, over its largest.
  async function extent(bytes, count) {
    const context = new OfflineAudioContext(1, 1, 44100);
    const samples = (await context.decodeAudioData(bytes.slice(0))).getChannelData(0);
    const parts = [];
    let most = 1e-6;
    for (let part = 0; part < count; part += 1) {
      const first = Math.floor(part * samples.length / count);
      const last = Math.max(first + 1, Math.floor((part + 1) * samples.length / count));
      let low = 0;
      let high = 0;
      for (let at = first; at < Math.min(last, samples.length); at += 1) {
        low = Math.min(low, samples[at]);
        high = Math.max(high, samples[at]);
      }
      most = Math.max(most, -low, high);
      parts.push([low, high]);
    }
    return parts.map(function (pair) { return [pair[0] / most, pair[1] / most]; });
  }

  class Marks {
    constructor(player, seconds, changed) {
      this.player = player;
      this.seconds = seconds;
      this.changed = changed;
      this.marks = [];
      this.cursor = 0;
      this.parts = [];
      this.enabled = false;
      this.canvas = make("canvas");
      this.canvas.setAttribute("aria-hidden", "true");
      this.slider = make("div", this.canvas);
      this.slider.className = "waveform";
      this.slider.setAttribute("role", "slider");
      this.slider.setAttribute("aria-label", "Place in the sound");
      this.slider.setAttribute("aria-valuemin", "0");
      this.slider.setAttribute("aria-valuemax", seconds.toFixed(2));
      this.list = make("ul");
      this.list.className = "places";
      this.list.setAttribute("aria-label", "Marked places");
      this.none = make("input");
      this.none.type = "checkbox";
      this.none.addEventListener("change", () => {
        if (this.none.checked) { this.marks = []; }
        this.show();
      });
      const none = make("label", this.none, make("span", "I hear none"));
      none.className = "more";
      this.buttons = make("p",
        button("Play from the cursor", () => player.play(Math.min(this.cursor, seconds - 0.01))),
        button("Mark the cursor", () => this.mark(this.cursor)));
      this.buttons.className = "buttons";
      const hint = make("p", "Click or tap where you hear one. By keys: the arrows move the " +
        "cursor (with Shift: further), Enter marks, Delete removes the nearest mark.");
      hint.className = "fine";
      this.element = make("div", this.slider, this.buttons, this.list, none, hint);
      this.slider.addEventListener("keydown", (event) => this.key(event));
      this.slider.addEventListener("click", (event) => this.click(event));
      player.listeners.push(() => this.draw());
      new ResizeObserver(() => this.resize()).observe(this.slider);
      player.ready.then(() => this.resize());
      this.enable(false);
    }

    async resize() {
      const width = this.slider.clientWidth;
      if (!this.player.bytes || !width) { return; }
      const scale = window.devicePixelRatio || 1;
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(this.slider.clientHeight * scale);
      this.parts = await extent(this.player.bytes, Math.max(50, Math.round(width)));
      this.draw();
    }

    enable(on) {
      this.enabled = on;
      this.slider.tabIndex = on ? 0 : -1;
      this.slider.setAttribute("aria-disabled", String(!on));
      this.show();
    }

    click(event) {
      if (!this.enabled) { return; }
      const box = this.slider.getBoundingClientRect();
      const place = (event.clientX - box.left) / box.width * this.seconds;
      const near = this.nearest(place);
      this.slider.focus();
      if (near !== null && Math.abs(near - place) < 8 / box.width * this.seconds) {
        this.move(near);
      } else {
        this.mark(place);
      }
    }

    key(event) {
      if (!this.enabled || event.altKey || event.ctrlKey || event.metaKey) { return; }
      const step = this.seconds / (event.shiftKey ? 20 : 200);
      if (event.key === "ArrowLeft" || event.key === "ArrowDown") {
        this.move(this.cursor - step);
      } else if (event.key === "ArrowRight" || event.key === "ArrowUp") {
        this.move(this.cursor + step);
      } else if (event.key === "Home") {
        this.move(0);
      } else if (event.key === "End") {
        this.move(this.seconds);
      } else if (event.key === "Enter") {
        this.mark(this.cursor);
      } else if (event.key === "Delete" || event.key === "Backspace") {
        const near = this.nearest(this.cursor);
        if (near !== null) { this.remove(near); }
      } else {
        return;
      }
      event.preventDefault();
    }

    nearest(place) {
      return this.marks.reduce(function (best, one) {
        return best === null || Math.abs(one - place) < Math.abs(best - place) ? one : best;
      }, null);
    }

    move(place) {
      this.cursor = Math.max(0, Math.min(this.seconds, place));
      this.show();
    }

    mark(place) {
      if (!this.enabled) { return; }
      this.move(place);
      const one = Math.round(this.cursor * 1000) / 1000;
      if (this.marks.includes(one) || this.marks.length >= MOST) { return; }
      this.marks = this.marks.concat(one).sort(function (a, b) { return a - b; });
      this.none.checked = false;
      this.show();
    }

    remove(place) {
      this.marks = this.marks.filter(function (one) { return one !== place; });
      this.show();
    }

    value() { return this.marks.length || this.none.checked ? this.marks : null; }

    show() {
      const count = this.marks.length;
      const said = this.cursor.toFixed(2) + " of " + this.seconds.toFixed(2) + " seconds, " +
        count + (count === 1 ? " mark" : " marks");
      this.slider.setAttribute("aria-valuenow", this.cursor.toFixed(2));
      this.slider.setAttribute("aria-valuetext", said);
      this.list.replaceChildren(...this.marks.map((one) => {
        const remove = button("×", () => {
          const items = Array.from(this.list.querySelectorAll("button"));
          const index = items.indexOf(remove);
          this.remove(one);
          const left = this.list.querySelectorAll("button");
          (left[Math.min(index, left.length - 1)] || this.slider).focus();
        });
        remove.setAttribute("aria-label", "Remove the mark at " + one.toFixed(2) + " seconds");
        return make("li", one.toFixed(2) + " s ", remove);
      }));
      this.draw();
      this.changed();
    }

    draw() {
      const { width, height } = this.canvas;
      const brush = this.canvas.getContext("2d");
      const style = getComputedStyle(this.slider);
      const colour = function (name) { return style.getPropertyValue(name); };
      const scale = window.devicePixelRatio || 1;
      brush.clearRect(0, 0, width, height);
      brush.fillStyle = colour("--soft");
      this.parts.forEach((pair, index) => {
        const left = index * width / this.parts.length;
        const top = height / 2 * (1 - 0.9 * pair[1]);
        const tall = Math.max(scale, height / 2 * 0.9 * (pair[1] - pair[0]));
        brush.fillRect(left, top, Math.max(1, width / this.parts.length), tall);
      });
      const line = (place, name, thick) => {
        brush.fillStyle = colour(name);
        const at = place / this.seconds * width;
        brush.fillRect(Math.max(0, Math.min(width - thick * scale, at - thick * scale / 2)), 0,
          thick * scale, height);
      };
      this.marks.forEach(function (one) { line(one, "--mark", 3); });
      if (this.enabled) { line(this.cursor, "--focus", 1.5); }
      const now = this.player.place();
      if (now !== null) { line(now, "--ink", 1.5); }
    }
  }

  window.Marks = Marks;
}());
