// Keeps the page "Live" up to date, and says so when its session has ended.

import { list, off, on, show } from "./events.js";

const POLICY_VIOLATION = 1008; // RFC 6455: here, that the session has ended
const PAUSE = 2000;

let last = Number(list.dataset.last);
let socket;

function open() {
  const address = new URL(`${list.dataset.socket}?after=${last}`, location);
  address.protocol = address.protocol.replace("http", "ws");
  let opened = false;
  socket = new WebSocket(address);
  socket.addEventListener("open", () => {
    opened = true;
    on();
  });
  socket.addEventListener("message", (message) => {
    const event = JSON.parse(message.data);
    last = event.number;
    show(event);
  });
  socket.addEventListener("close", ({ code }) => {
    off();
    if (code === POLICY_VIOLATION) {
      list.replaceChildren(); // it was for the one who was signed in
      document.querySelector("[data-ended]").hidden = false;
    } else if (opened) {
      setTimeout(open, PAUSE); // the server was restarted, or the network was away
    }
  });
}

open();
// A page that is put aside must not hold a connection, and what it shows may be over when it comes back.
addEventListener("pagehide", () => socket.close());
addEventListener("pageshow", (event) => event.persisted && location.reload());
