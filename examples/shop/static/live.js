// Keeps the list of events on "Your session" up to date. Without it, the list is what it was when the page was loaded.

import { list, off, on, show } from "./events.js";

if (list) {
  const source = new EventSource(list.dataset.stream);
  source.addEventListener("open", on);
  source.addEventListener("error", () => {
    // The stream ends once a minute, and the browser opens the next one by itself.
    if (source.readyState !== EventSource.CLOSED) return;
    off();
  });
  source.addEventListener("session", (message) => {
    show(JSON.parse(message.data));
    document.querySelector("[data-none]").hidden = true;
    document.querySelector("[data-stale]").hidden = false;
  });
  source.addEventListener("ended", (message) => {
    const { text, login } = JSON.parse(message.data);
    const notice = document.querySelector("[data-ended]");
    notice.querySelector("span span").textContent = text;
    notice.querySelector("a").href = login;
    notice.hidden = false;
    source.close();
    off();
  });
  // A page that is put aside must not hold a connection: browsers have six for one host.
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}
