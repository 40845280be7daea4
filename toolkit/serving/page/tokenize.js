// The tokenizer tab: one text, split by two tokenizers, while it is typed.

import { LatestQuestion, getJSON } from "./api.js";
import { roving } from "./roving.js";
import { countedBytes, element, label, spoken, visibleCharacters } from "./show.js";
import { tooltips } from "./tooltip.js";

const DELAY = 120; // milliseconds
const EXAMPLE = "To be, or not to be: that is the question."; // without a prompt

// A token's own characters, with signs for what cannot be seen; a line ends where it ends.
function* charactersOf(token) {
  if (token.text === null) {
    yield element("span", { className: "sign", text: label(token) });
    return;
  }
  let plain = "";
  for (const [character, shown, isSign] of visibleCharacters(token.text)) {
    if (!isSign) {
      plain += shown;
      continue;
    }
    if (plain) yield plain;
    plain = "";
    yield element("span", { className: "sign", text: shown });
    if (character === "\n") yield "\n";
  }
  if (plain) yield plain;
}

function describe(token) {
  const lines = [`id ${token.id}${token.special ? " · special" : ""}`, countedBytes(token.bytes)];
  for (const { character, number, parts } of token.parts) {
    lines.push(`part ${number} of ${parts} of “${character}”`);
  }
  if (token.start !== null) {
    const [first, last] = [token.start, token.end - 1];
    lines.push(last > first ? `characters ${first}–${last}` : `character ${first}`);
  }
  return lines;
}

function overlap(one, other) {
  if (one.start === null || other.start === null) return false;
  return one.start < other.end && other.start < one.end;
}

class Pane {
  #question = new LatestQuestion();
  #place;
  #counts;
  #error;
  #keys;
  #elements = [];
  tokens = [];

  constructor(section, entries, chosen, onChange) {
    this.select = section.querySelector("select");
    this.#counts = section.querySelector(".counts");
    this.#error = section.querySelector(".error");
    this.#place = section.querySelector(".output");
    for (const entry of entries) {
      const option = element("option", { value: entry.key, text: entry.title });
      option.disabled = entry.missing !== null;
      this.select.append(option);
    }
    this.select.value = chosen;
    this.select.addEventListener("change", () => onChange(this));
    this.#keys = roving(this.#place, ".token");
    const tokenOf = (target) => this.tokens[Number(target.dataset.index)];
    tooltips(this.#place, ".token", (target) => describe(tokenOf(target)));
  }

  // The same place in the other pane is marked while one is looked at.
  linkTo(other) {
    const mark = (event) => {
      const target = event.target.closest(".token");
      other.mark(target ? this.tokens[Number(target.dataset.index)] : null);
    };
    this.#place.addEventListener("pointerover", mark);
    this.#place.addEventListener("focusin", mark);
    this.#place.addEventListener("pointerleave", () => other.mark(null));
    this.#place.addEventListener("focusout", () => other.mark(null));
  }

  mark(token) {
    this.tokens.forEach((own, index) => {
      this.#elements[index].classList.toggle("linked", token !== null && overlap(own, token));
    });
  }

  async split(text) {
    try {
      const found = await this.#question.ask("playground/tokenize", {
        tokenizer: this.select.value,
        text,
      });
      if (found) this.#draw(found);
    } catch (error) {
      this.#error.textContent = error.message;
      this.#error.hidden = false;
      this.#place.classList.add("stale");
      this.#counts.textContent = "";
    }
  }

  #draw(found) {
    this.tokens = found.tokens;
    this.#elements = found.tokens.map((token, index) => {
      const made = element(
        "span",
        {
          className: `token tint${index % 2}`,
          tabindex: -1,
          role: "img",
          "aria-label": `${spoken(token)}, id ${token.id}`,
          "data-index": index,
        },
        ...charactersOf(token),
      );
      if (token.text === null) made.classList.add("part");
      if (token.special) made.classList.add("special");
      return made;
    });
    this.#place.replaceChildren(...this.#elements);
    this.#place.classList.remove("stale");
    this.#keys.refresh();
    this.#error.hidden = true;
    const count = found.tokens.length;
    const parts = [
      `${count.toLocaleString("en")} ${count === 1 ? "token" : "tokens"}`,
      `${found.characters.toLocaleString("en")} characters`,
      count ? `${(found.bytes / count).toFixed(2)} bytes/token` : "",
      count ? `vocabulary ${found.vocab_size.toLocaleString("en")}` : "",
    ];
    this.#counts.textContent = parts.filter(Boolean).join(" · ");
  }
}

export class TokenizeTab {
  #text = document.getElementById("text");
  #timer = null;
  #panes = [];
  #isOpen = false;

  // Nothing is asked before somebody looks.
  async open() {
    if (this.#isOpen) return;
    this.#isOpen = true;
    try {
      await this.#start();
    } catch (error) {
      this.#isOpen = false;
      const place = document.querySelector("#tokenize .error");
      place.textContent = error.message;
      place.hidden = false;
    }
  }

  async #start() {
    const entries = await getJSON("playground/tokenizers");
    const sections = [...document.querySelectorAll(".pane")];
    // Beside the model's own one that everybody knows, or else one that can always be made.
    const known = entries.find((each) => each.key.startsWith("tiktoken:") && each.missing === null);
    const chosen = ["own", known?.key ?? "bpe"];
    this.#panes = sections.map(
      (section, index) =>
        new Pane(section, entries, chosen[index], (pane) => pane.split(this.#text.value)),
    );
    const [first, second] = this.#panes;
    first.linkTo(second);
    second.linkTo(first);
    this.#listMissing(entries.filter((entry) => entry.missing !== null));
    this.#text.value ||= document.getElementById("prompt").value || EXAMPLE;
    this.#text.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#split(), DELAY);
    });
    this.#split();
  }

  #split() {
    for (const pane of this.#panes) pane.split(this.#text.value);
  }

  #listMissing(missing) {
    const list = document.getElementById("missing");
    list.parentElement.hidden = missing.length === 0;
    for (const { title, missing: why } of missing) {
      list.append(element("li", { text: `${title}: ${why}` }));
    }
  }
}
