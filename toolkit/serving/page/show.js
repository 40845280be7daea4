// How tokens and probabilities are shown. Text only ever goes to the page as text: no function of
// this page makes markup from a string.

// Five steps of probability. Each has a colour and, for eyes that do not see it, a thicker line
// below the less likely a token was.
export const LEVELS = [
  { from: 0.5, label: "50–100%" },
  { from: 0.2, label: "20–50%" },
  { from: 0.05, label: "5–20%" },
  { from: 0.01, label: "1–5%" },
  { from: 0, label: "below 1%" },
];

export function levelOf(probability) {
  return 1 + LEVELS.findIndex((level) => probability >= level.from);
}

export function percent(probability) {
  const value = 100 * probability;
  if (value === 0) return "0%";
  if (value < 0.01) return "<0.01%";
  if (value < 1) return `${value.toFixed(2)}%`;
  if (value < 99.95) return `${value.toFixed(1)}%`;
  return "100%";
}

export function element(tag, { className, text, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function bytesOfHex(hex) {
  return Uint8Array.from({ length: hex.length / 2 }, (_, i) => parseInt(hex.slice(2 * i, 2 * i + 2), 16));
}

export function hexOfBytes(bytes) {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

const SIGNS = { " ": "·", "\n": "↵", "\t": "→", "\r": "␍" };
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]|[^\P{Zs} ]/u;
const LONE_MARK = /^\p{M}/u;

// One character so that it can be seen: [what to show, whether it is a sign for it].
export function visible(character) {
  if (character in SIGNS) return [SIGNS[character], true];
  if (UNPRINTABLE.test(character)) {
    return [`U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`, true];
  }
  return [character, false];
}

// A token in one line: signs for what has no look, bytes for a part of a character.
export function label(token) {
  if (token.text === null) return hexOfBytes(bytesOfHex(token.bytes));
  const shown = [...token.text].map((character) => visible(character)[0]).join("");
  return LONE_MARK.test(shown) ? `◌${shown}` : shown;
}

// As a screen reader should say it.
export function spoken(token) {
  if (token.text === null) return `bytes ${hexOfBytes(bytesOfHex(token.bytes))}`;
  if (token.text === "") return "nothing";
  const names = { " ": "space", "\n": "line break", "\t": "tab", "\r": "carriage return" };
  if (!/\S/u.test(token.text)) {
    return [...token.text].map((character) => names[character] ?? visible(character)[0]).join(", ");
  }
  return token.text.trim();
}
