// The page is complete without this: it replaces the overview with newer ones.
"use strict";
const live = document.getElementById("live");
if (live) {
  const events = new EventSource("/events");
  events.onmessage = (e) => {
    // Not below the reader's selection or keyboard.
    if (!getSelection().isCollapsed || live.contains(document.activeElement)) return;
    live.innerHTML = e.data;
    document.documentElement.dataset.live = "on";
  };
  events.onerror = () => { document.documentElement.dataset.live = "off"; };
}
