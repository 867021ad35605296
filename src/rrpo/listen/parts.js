// Parts of which every page is made.
(function () {
  "use strict";
  const make = window.sounds.make;

  function paragraph(text, kind) {
    const one = make("p", text);
    if (kind) { one.className = kind; }
    return one;
  }

  function button(text, act, main) {
    const one = make("button", text);
    one.type = "button";
    if (main) { one.className = "main"; }
    one.addEventListener("click", act);
    return one;
  }

  // How far a listener is, before the answer to a page.
  function progress(pages, page) {
    const number = pages.indexOf(page) + 1;
    const bar = make("progress");
    bar.max = pages.length;
    bar.value = number - 1;
    bar.setAttribute("aria-label", "Pages answered");
    const words = paragraph((page.training ? "Training · " : "") + number + " of " + pages.length, "kicker count");
    const element = make("div", words, bar);
    element.className = "progress";
    return element;
  }

  window.parts = { paragraph: paragraph, button: button, progress: progress };
}());
