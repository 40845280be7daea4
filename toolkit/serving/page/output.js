// A text as tokens: each coloured by its probability, each to be pointed at, reached and chosen.

import { roving } from "./roving.js";
import {
  LEVELS,
  bytesOfHex,
  countedBytes,
  element,
  label,
  levelOf,
  percent,
  signsOfInvisible,
  spoken,
} from "./show.js";
import { tooltips } from "./tooltip.js";

export function drawScale(place) {
  place.replaceChildren(
    ...LEVELS.map((level, index) =>
      element("div", {}, element("dt", { className: `token p${index + 1}`, text: level.label })),
    ),
  );
}

export class Output {
  #place;
  #tokens = [];
  #elements = [];
  #decoder = null;
  #selected = null;
  #keys;

  // `onSelect(index, byKeyboard)` when a token is chosen.
  constructor(place, onSelect) {
    this.#place = place;
    this.#keys = roving(place, ".token");
    tooltips(place, ".token", (target) => this.#describe(Number(target.dataset.index)));
    place.addEventListener("click", (event) => {
      const target = event.target.closest(".token");
      if (target) onSelect(Number(target.dataset.index), false);
    });
    place.addEventListener("keydown", (event) => {
      const target = event.target.closest(".token");
      if (!target || (event.key !== "Enter" && event.key !== " ") || event.ctrlKey) return;
      event.preventDefault();
      onSelect(Number(target.dataset.index), true);
    });
  }

  show(branch) {
    this.#tokens = [];
    this.#elements = [];
    this.#selected = null;
    this.#decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    this.#place.replaceChildren(element("span", { className: "prompt", text: branch.prompt }));
    this.add(branch.tokens);
  }

  add(tokens) {
    for (const token of tokens) {
      const index = this.#tokens.length;
      const made = element("span", {
        className: `token p${levelOf(token.probability)}`,
        role: "button",
        tabindex: -1,
        "aria-label": `${spoken(token)}, ${percent(token.probability)}`,
        "aria-pressed": "false",
        // A token may end inside a character: the one that completes it shows it.
        text: this.#decoder.decode(bytesOfHex(token.bytes), { stream: true }),
        "data-index": index,
      });
      if (made.textContent === "") made.classList.add("part");
      const signs = signsOfInvisible(made.textContent);
      if (signs) {
        made.classList.add("invisible");
        made.dataset.signs = signs;
      }
      if (/^\n+$/u.test(made.textContent)) made.classList.add("newline");
      if (token.byHand) made.classList.add("by-hand");
      if (token.special) made.classList.add("special");
      this.#tokens.push(token);
      this.#elements.push(made);
      this.#place.append(made);
    }
    this.#keys.refresh();
  }

  // No more tokens come: a character that was never completed is shown as such.
  finish() {
    this.#elements.at(-1)?.append(this.#decoder.decode());
  }

  select(index) {
    this.#elements[this.#selected]?.setAttribute("aria-pressed", "false");
    this.#selected = index;
    this.#elements[index]?.setAttribute("aria-pressed", "true");
  }

  focus(index) {
    this.#elements[index]?.focus();
  }

  #describe(index) {
    const token = this.#tokens[index];
    const lines = [
      `“${label(token)}”  ${percent(token.probability)}`,
      `id ${token.id} · ${countedBytes(token.bytes)}`,
    ];
    if (token.byHand) lines.push("chosen by hand");
    return lines;
  }
}
