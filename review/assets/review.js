"use strict";
// Regions marked data-live are fetched again while they are looked at. Without
// this script the page is complete and a reload does the same.
(function () {
  var pause = 3000;
  function update() {
    if (document.hidden || !document.querySelector("[data-live]")) { return again(); }
    fetch(location.href, { credentials: "same-origin", cache: "no-store" })
      .then(function (r) { return r.ok ? r.text() : Promise.reject(r.status); })
      .then(function (text) {
        var next = new DOMParser().parseFromString(text, "text/html");
        document.querySelectorAll("[data-live]").forEach(function (old) {
          var fresh = next.getElementById(old.id);
          if (!fresh) { location.reload(); return; }
          if (old.contains(document.activeElement) || old.isEqualNode(fresh)) { return; }
          old.replaceWith(document.importNode(fresh, true));
        });
      })
      .catch(function () {})
      .then(again);
  }
  function again() { setTimeout(update, pause); }
  if (document.querySelector("[data-live]")) { again(); }
})();
