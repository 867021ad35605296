(function () {
  "use strict";
  // Without this script the browser's own audio controls are shown; with it, compact players.
  var root = document.documentElement;
  root.classList.add("js");
  if (!document.createElement("audio").canPlayType("audio/ogg; codecs=opus")) {
    root.classList.add("no-opus");
  }
  var current = null;

  // A blob can be searched in every browser, a long data URI cannot: made at the first play.
  function prepare(audio) {
    if (!audio.src.startsWith("data:")) { return; }
    var parts = audio.src.split(",");
    var text = atob(parts[1]);
    var bytes = new Uint8Array(text.length);
    for (var i = 0; i < text.length; i += 1) { bytes[i] = text.charCodeAt(i); }
    var kind = parts[0].slice(5).split(";")[0];
    audio.src = URL.createObjectURL(new Blob([bytes], { type: kind }));
  }

  // What is not shown is not played.
  document.querySelectorAll(".switches input").forEach(function (input) {
    input.addEventListener("change", function () { if (current) { current.pause(); } });
  });

  document.querySelectorAll(".player").forEach(function (player) {
    var audio = player.querySelector("audio");
    var button = player.querySelector("button");
    var range = player.querySelector("input");
    var extent = player.querySelector(".extent");
    var time = player.querySelector(".time");
    var seconds = Number(player.dataset.seconds);
    var name = audio.getAttribute("aria-label");

    function show() {
      var share = Math.min(audio.currentTime / seconds, 1);
      extent.style.setProperty("--at", share);
      range.value = share;
      range.setAttribute("aria-valuetext", audio.currentTime.toFixed(1) + " of " + seconds.toFixed(1) + " seconds");
      time.textContent = (audio.paused ? seconds : audio.currentTime).toFixed(1) + " s";
    }
    function follow() {
      show();
      if (!audio.paused) { requestAnimationFrame(follow); }
    }
    button.addEventListener("click", function () {
      prepare(audio);
      if (audio.paused) { audio.play(); } else { audio.pause(); }
    });
    range.addEventListener("input", function () {
      prepare(audio);
      audio.currentTime = Number(range.value) * seconds;
      player.classList.add("started");
      show();
    });
    audio.addEventListener("play", function () {
      if (current && current !== audio) { current.pause(); }
      current = audio;
      player.classList.add("playing", "started");
      button.setAttribute("aria-label", "Pause " + name);
      follow();
    });
    ["pause", "ended"].forEach(function (event) {
      audio.addEventListener(event, function () {
        player.classList.remove("playing");
        button.setAttribute("aria-label", "Play " + name);
        show();
      });
    });
    audio.addEventListener("ended", function () {
      player.classList.remove("started");
      audio.currentTime = 0;
    });
  });

  // A page that still grows is loaded again, unless somebody has just used it.
  if (document.getElementById("progress")) {
    var used = 0;
    ["pointerdown", "keydown", "scroll"].forEach(function (event) {
      addEventListener(event, function () { used = Date.now(); }, { passive: true });
    });
    setInterval(function () {
      var playing = document.querySelector(".playing");
      if (!playing && Date.now() - used > 15000) { location.reload(); }
    }, 15000);
  }
}());
