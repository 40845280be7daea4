// What a screen reader says by itself. Streamed text comes in pieces of a few seconds: a region
// that spoke every token would never be understood.

const INTERVAL = 4000; // milliseconds
const region = document.getElementById("announcer");
let waiting = "";
let timer = null;

function speak() {
  timer = null;
  if (!waiting) return;
  region.textContent = waiting;
  waiting = "";
  timer = setTimeout(speak, INTERVAL);
}

export function announceText(piece) {
  waiting += piece;
  timer ??= setTimeout(speak, INTERVAL);
}

export function announce(message) {
  clearTimeout(timer);
  region.textContent = [waiting.trim(), message].filter(Boolean).join(" — ");
  waiting = "";
  timer = null;
}
