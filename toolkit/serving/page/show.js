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
  return Uint8Array.from(hex.match(/../gu) ?? [], (byte) => parseInt(byte, 16));
}

// "2 bytes: c3 a9"
export function countedBytes(hex) {
  const count = hex.length / 2;
  return `${count} ${count === 1 ? "byte" : "bytes"}: ${hex.replace(/..(?=.)/gu, "$& ")}`;
}

const SIGNS = { " ": "·", "\n": "↵", "\t": "→", "\r": "␍" };
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]|[^\P{Zs} ]/u;
const LONE_MARK = /^\p{M}/u;

// [What to show for a character, whether that is a sign for it].
function visible(character) {
  if (character in SIGNS) return [SIGNS[character], true];
  if (UNPRINTABLE.test(character)) {
    return [`U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`, true];
  }
  return [character, false];
}

// The characters of a text so that they can be seen: for each [itself, what to show, whether that
// is a sign for it]. An accent with nothing to stand on gets a dotted circle.
export function visibleCharacters(text) {
  let hasBase = false;
  return [...text].map((character) => {
    const [shown, isSign] = visible(character);
    const isLone = !hasBase && LONE_MARK.test(shown);
    hasBase = !isSign;
    return [character, isLone ? `◌${shown}` : shown, isSign];
  });
}

// Signs for a text that would take no room on the page, such as "U+200B"; "" where it takes some.
export function signsOfInvisible(text) {
  const characters = visibleCharacters(text);
  if (characters.some(([own, , isSign]) => !isSign || " \n\t".includes(own))) return "";
  return characters.map(([, shown]) => shown).join("");
}

// A token in one line: signs for what has no look, bytes for a part of a character.
export function label(token) {
  if (token.text === null) return token.bytes.replace(/../gu, "\\x$&");
  return visibleCharacters(token.text).map(([, shown]) => shown).join("");
}

// As a screen reader should say it.
export function spoken(token) {
  if (token.text === null) return countedBytes(token.bytes);
  if (token.text === "") return "nothing";
  const names = { " ": "space", "\n": "line break", "\t": "tab", "\r": "carriage return" };
  if (!/\S/u.test(token.text)) {
    return visibleCharacters(token.text).map(([own, shown]) => names[own] ?? shown).join(", ");
  }
  const before = names[token.text[0]];
  return before ? `${before}, ${token.text.trim()}` : token.text.trim();
}
