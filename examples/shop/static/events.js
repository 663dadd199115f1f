// The list of events that "Your session" and "Live" have in common.

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const calendar = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "medium" });

export const list = document.querySelector(".events");
export const state = document.querySelector("[data-live-state]");

function inLocalTime(element) {
  const date = new Date(element.dateTime);
  element.textContent = ("short" in element.dataset ? clock : calendar).format(date);
}

export function show(event) {
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
}

export function on() {
  state.textContent = "Newest first, as they happen.";
  state.dataset.liveState = "on";
}

export function off() {
  state.textContent = "No longer live. Load the page again to see where you are.";
  state.dataset.liveState = "off";
}

for (const element of document.querySelectorAll("time")) inLocalTime(element);
