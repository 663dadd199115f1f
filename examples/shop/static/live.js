// Keeps the list of events on "Your session" up to date. Without it, the list is what it was when the page was loaded.

const list = document.querySelector("[data-stream]");
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const calendar = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "medium" });

function inLocalTime(element) {
  const date = new Date(element.dateTime);
  element.textContent = ("short" in element.dataset ? clock : calendar).format(date);
}

function show(event) {
  const item = document.getElementById("event").content.cloneNode(true);
  const time = item.querySelector("time");
  time.dateTime = event.at;
  inLocalTime(time);
  item.querySelector("h3").textContent = event.title;
  item.querySelector("h3 + p").textContent = event.detail;
  const [kind, id] = item.querySelectorAll("code");
  kind.textContent = event.kind;
  id.textContent = event.id;
  item.firstElementChild.classList.add("event-new");
  list.prepend(item);
  document.querySelector("[data-none]").hidden = true;
}

for (const element of document.querySelectorAll("time")) inLocalTime(element);

if (list) {
  const state = document.querySelector("[data-live-state]");
  const source = new EventSource(list.dataset.stream);
  const off = () => {
    state.textContent = "No longer live. Load the page again to see where you are.";
    state.dataset.liveState = "off";
  };
  source.addEventListener("open", () => {
    state.textContent = "Newest first, as they happen.";
    state.dataset.liveState = "on";
  });
  source.addEventListener("error", () => {
    // The stream ends once a minute, and the browser opens the next one by itself.
    if (source.readyState !== EventSource.CLOSED) return;
    off();
  });
  source.addEventListener("session", (message) => {
    show(JSON.parse(message.data));
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
