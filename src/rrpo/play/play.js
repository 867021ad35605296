(function () {
  "use strict";
  var form = document.getElementById("ask");
  var seed = document.getElementById("seed");
  var cards = Array.from(document.querySelectorAll(".card"));
  var busy = false;

  function tell(card, text, wrong) {
    var line = card.querySelector(".said");
    line.textContent = text;
    line.classList.toggle("wrong", Boolean(wrong));
  }

  async function say(card, policy, asked) {
    var audio = card.querySelector("audio");
    tell(card, "speaking …");
    try {
      var answer = await fetch("speech", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(Object.assign({ policy: policy }, asked))
      });
      if (!answer.ok) { throw new Error(await answer.text()); }
      audio.src = URL.createObjectURL(await answer.blob());
      audio.hidden = false;
      tell(card, decodeURIComponent(answer.headers.get("X-Notes")) || "seed " + asked.seed);
    } catch (error) {
      var lost = error instanceof TypeError;  // of fetch: there was no answer
      tell(card, lost ? "no answer: is rrpo play still running?" : error.message, true);
    }
  }

  // One after the other: the server speaks one sentence at a time.
  async function ask() {
    if (busy || !form.reportValidity()) { return; }
    busy = true;
    form.setAttribute("aria-busy", "true");
    var asked = {
      text: document.getElementById("text").value,
      emotion: document.getElementById("emotion").value,
      seed: Number(seed.value)
    };
    cards.forEach(function (card) {
      var audio = card.querySelector("audio");
      audio.pause();
      audio.hidden = true;
      if (audio.src) { URL.revokeObjectURL(audio.src); audio.removeAttribute("src"); }
      tell(card, "waiting …");
    });
    for (var policy = 0; policy < cards.length; policy += 1) {
      await say(cards[policy], policy, asked);
    }
    busy = false;
    form.removeAttribute("aria-busy");
  }

  form.addEventListener("submit", function (event) {
    event.preventDefault();
    ask();
  });
  document.getElementById("again").addEventListener("click", function () {
    if (busy) { return; }
    seed.value = Number(seed.value) + 1;
    ask();
  });
  // Two sounds at once cannot be compared.
  cards.forEach(function (card) {
    card.querySelector("audio").addEventListener("play", function (event) {
      document.querySelectorAll("audio").forEach(function (other) {
        if (other !== event.target) { other.pause(); }
      });
    });
  });
}());
