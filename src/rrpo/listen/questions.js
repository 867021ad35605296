// The questions of a page. Each has `element`, `value()` (null: not answered yet), `enable(on)`,
// `digits` (whether digits answer it), `key(key)` (whether a key of the keyboard was for it) and
// `focus()`.
(function () {
  "use strict";
  const make = window.sounds.make;
  let count = 0;

  function spelled(value) { return String(value).replace("-", "−"); }

  class Question {
    constructor(asked, changed, hint) {
      count += 1;
      this.asked = asked;
      this.changed = changed;
      this.id = "question-" + count;
      this.digits = true;
      this.element = make("fieldset", make("legend", asked.prompt));
      this.element.className = "question kind-" + asked.kind;
      if (hint) {
        const line = make("p", hint);
        line.className = "fine hint";
        this.hint = line;
      }
    }

    enable(on) { this.element.disabled = !on; }

    focus() { this.element.querySelector("input").focus(); }

    key() { return false; }
  }

  // One of several values, as radio buttons.
  class Options extends Question {
    constructor(asked, changed, options, hint) {
      super(asked, changed, hint);
      this.options = options;
      this.inputs = options.map((option) => {
        const input = make("input");
        input.type = "radio";
        input.name = this.id;
        input.addEventListener("change", () => changed());
        return input;
      });
      const row = make("div", ...options.map((option, index) => {
        const face = make("span", option.text);
        if (option.sign) {
          const sign = make("kbd", option.sign);
          sign.setAttribute("aria-hidden", "true");
          face.prepend(sign);
        }
        if (option.more) { this.inputs[index].setAttribute("aria-label", option.text + ", " + option.more); }
        const label = make("label", this.inputs[index], face);
        if (option.minor) { label.className = "minor"; }
        return label;
      }));
      row.className = "options";
      this.row = row;
      this.element.append(row);
      if (this.hint) { this.element.append(this.hint); }
    }

    value() {
      const index = this.inputs.findIndex(function (input) { return input.checked; });
      return index < 0 ? null : this.options[index].value;
    }

    focus() {
      (this.inputs.find(function (input) { return input.checked; }) || this.inputs[0]).focus();
    }

    choose(index) {
      if (index < 0) { return false; }
      this.inputs[index].checked = true;
      this.inputs[index].focus();
      this.changed();
      return true;
    }

    key(key) { return this.choose(this.options.findIndex(function (one) { return one.key === key; })); }
  }

  // A rating from `low` to `high`, with words at some of its values.
  class Scale extends Options {
    constructor(asked, changed) {
      const count = Math.round((asked.high - asked.low) / asked.step);
      const options = [];
      for (let index = 0; index <= count; index += 1) {
        const value = Math.round((asked.low + index * asked.step) * 1e6) / 1e6;
        const signed = asked.low < 0 && value > 0 ? "+" + spelled(value) : spelled(value);
        const whole = Number.isInteger(value);
        options.push({ value: value, text: signed, more: Scale.word(asked, value), minor: !whole });
      }
      const below = asked.low < 0 ? " (for one below 0 first −)" : "";
      const more = asked.step < 1 ? ", then + for half a point more" : "";
      super(asked, changed, options, "Keys: the number" + below + more + "; or the arrows.");
      this.below = false;  // − was pressed, and the next number is below 0
      // Words lie under their values; where these are too many for one line, before them.
      const least = options.length > 13 ? 0 : options.length;
      this.row.classList.toggle("values", least > 0);
      if (least) { this.row.style.gridTemplateColumns = "repeat(" + least + ", minmax(0, 1fr))"; }
      const words = options.map(function (one, index) { return [one, index]; })
        .filter(function (pair) { return pair[0].more; });
      if (!words.length) { return; }
      const ends = make("div", ...words.map(function (pair) {
        const said = make("span", least ? pair[0].more : pair[0].text + " = " + pair[0].more);
        if (least) {
          const place = pair[1];
          if (place === 0) { said.className = "first"; }
          if (place === least - 1) { said.className = "last"; }
          said.style.left = (place + 0.5) / least * 100 + "%";
        }
        return said;
      }));
      ends.className = least ? "ends" : "ends list";
      ends.setAttribute("aria-hidden", "true");  // each value has its word by itself
      this.row.after(ends);
      if (words.length > 3) { ends.classList.add("many"); }
    }

    static word(asked, value) {
      const found = Object.keys(asked.labels).find(function (one) { return Number(one) === value; });
      return found === undefined ? "" : asked.labels[found];
    }

    // No key means another thing when it is pressed twice: the second may be for the next question.
    key(key) {
      if ((key === "-" || key === "−") && this.asked.low < 0) {
        this.setBelow(!this.below);
        return true;
      }
      if (key === "+" || key === "=") { return this.chooseMore(); }  // "+" without Shift
      if (!/^[0-9]$/.test(key)) { return false; }
      const value = this.below ? -Number(key) : Number(key);
      this.setBelow(false);
      return this.chooseValue(value);
    }

    setBelow(on) {
      this.below = on;
      this.usual = this.usual || this.hint.textContent;
      this.hint.textContent = on ? "− and now the number." : this.usual;
    }

    chooseMore() {
      const now = this.value();
      if (now === null || this.asked.step >= 1) { return false; }
      const next = now + (now < 0 ? -this.asked.step : this.asked.step);
      return Math.abs(next - Math.round(next)) > 1e-6 && this.chooseValue(next);
    }

    chooseValue(value) {
      return this.choose(this.options.findIndex(function (option) {
        return Math.abs(option.value - value) < 1e-6;
      }));
    }
  }

  function preference(asked, changed) {
    const options = [
      { value: "first", text: "The first", sign: "1", key: "1" },
      { value: "second", text: "The second", sign: "2", key: "2" }
    ];
    if (asked.tie) { options.push({ value: "same", text: "No difference", sign: "0", key: "0" }); }
    return new Options(asked, changed, options);
  }

  function choice(asked, changed) {
    return new Options(asked, changed, asked.choices.map(function (text, index) {
      const key = index < 9 ? String(index + 1) : null;
      return { value: text, text: text, sign: key, key: key };
    }));
  }

  class Whole extends Question {
    constructor(asked, changed) {
      super(asked, changed);
      this.input = make("input");
      this.input.type = "text";
      this.input.inputMode = "numeric";
      this.input.autocomplete = "off";
      this.input.maxLength = 6;
      this.input.setAttribute("aria-label", asked.prompt);
      this.input.addEventListener("input", changed);
      this.element.append(this.input);
    }

    key(key) {
      if (!/^[0-9]$/.test(key)) { return false; }
      this.input.value = (this.input.value + key).slice(0, this.input.maxLength);
      this.input.focus();
      this.changed();
      return true;
    }

    value() { return /^\s*[0-9]+\s*$/.test(this.input.value) ? Number(this.input.value) : null; }
  }

  class Marked extends Question {
    constructor(asked, changed, page, players) {
      super(asked, changed);
      this.digits = false;
      this.marks = new window.Marks(players[0], page.sounds[0].seconds, changed);
      this.element.append(this.marks.element);
    }

    enable(on) {
      super.enable(on);
      this.marks.enable(on);
    }

    focus() { this.marks.slider.focus(); }

    value() { return this.marks.value(); }
  }

  // Which question a key is for. A digit is for the one that the focus was moved to and that was not
  // answered since; otherwise for the first unanswered one; where all are answered, for the one that
  // has the focus. So a digit that was meant for the next question never changes the last one.
  window.Turns = class {
    constructor(form, questions) {
      this.questions = questions;
      this.entered = null;
      form.addEventListener("focusin", (event) => { this.entered = this.around(event.target); });
    }

    around(element) {
      return this.questions.find(function (one) { return one.element.contains(element); }) || null;
    }

    answered() { this.entered = null; }

    target(key) {
      const focused = this.around(document.activeElement);
      // + is of the number before it, so of the question that was answered last.
      if (/^[+=]$/.test(key) || (focused && focused === this.entered)) { return focused; }
      return this.questions.find(function (one) { return one.digits && one.value() === null; }) || focused;
    }

    key(event) {
      if (event.repeat) { return; }  // a key that is held down answers once
      const one = this.target(event.key);
      if (one && one.key(event.key)) { event.preventDefault(); }
    }
  };

  window.makeQuestion = function (asked, changed, page, players) {
    if (asked.kind === "scale" || asked.kind === "comparison") { return new Scale(asked, changed); }
    if (asked.kind === "preference") { return preference(asked, changed); }
    if (asked.kind === "choice") { return choice(asked, changed); }
    if (asked.kind === "number") { return new Whole(asked, changed); }
    return new Marked(asked, changed, page, players);
  };
}());
