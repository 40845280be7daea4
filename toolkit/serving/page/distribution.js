// What may come next, as bars: the model's own probability above, the one it is drawn with below.

import { LatestQuestion } from "./api.js";
import { roving } from "./roving.js";
import { element, label, percent, spoken } from "./show.js";

const DELAY = 60; // milliseconds: a slider that moves asks once, when it rests for this long
const SHOWN = 16;
const SCALES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1];

class Row {
  constructor(candidate, onChoose) {
    this.name = element("span", { className: "bar-token", text: label(candidate) });
    this.before = element("span", { className: "bar before" });
    this.after = element("span", { className: "bar after" });
    this.beforeText = element("span", { className: "number" });
    this.afterText = element("span", { className: "number" });
    this.button = element(
      "button",
      { type: "button", className: "bar-row", tabindex: -1 },
      this.name,
      element("span", { className: "track" }, this.before, this.after),
      this.beforeText,
      this.afterText,
    );
    // A click without a mouse button was made by a key.
    this.button.addEventListener("click", (event) => onChoose(this.candidate, event.detail === 0));
  }

  show(candidate, scale, isDrawn) {
    this.candidate = candidate;
    // Setting a style by script is what the Content-Security-Policy allows.
    this.before.style.width = `${(100 * candidate.before) / scale}%`;
    this.after.style.width = `${(100 * candidate.after) / scale}%`;
    this.beforeText.textContent = percent(candidate.before);
    this.afterText.textContent = candidate.kept ? percent(candidate.after) : "cut";
    this.button.classList.toggle("cut", !candidate.kept);
    this.button.classList.toggle("drawn", isDrawn);
    const drawn = candidate.kept ? `drawn with ${percent(candidate.after)}` : "ruled out";
    const mark = isDrawn ? ", the one that stands here" : "";
    this.button.setAttribute(
      "aria-label",
      `${spoken(candidate)}: model ${percent(candidate.before)}, ${drawn}${mark}`,
    );
  }
}

function summaryOf(found) {
  const size = found.vocab_size.toLocaleString("en");
  const kept = found.num_kept.toLocaleString("en");
  const bits = `${found.entropy_before.toFixed(2)} → ${found.entropy_after.toFixed(2)} bits`;
  const drawn = `${kept} of ${size} tokens can be drawn; entropy ${bits}.`;
  const others = found.vocab_size - found.candidates.length;
  if (others === 0) return drawn;
  const rest = `${percent(found.rest_before)} → ${percent(found.rest_after)}`;
  return `${drawn} The ${others.toLocaleString("en")} not shown: ${rest}.`;
}

export class DistributionPanel {
  #question = new LatestQuestion();
  #timer = null;
  #rows = new Map(); // by token id
  #context = null;
  #drawnId = null;
  #takesFocus = false;
  #options;
  #onChoose;
  #places;
  #keys;

  // `onChoose(candidate, ids, byKeyboard)` is told the token and the ids of what it follows.
  constructor(options, onChoose) {
    this.#options = options;
    this.#onChoose = onChoose;
    const byId = (id) => document.getElementById(id);
    this.#places = {
      where: byId("next-where"),
      scale: byId("bar-scale"),
      bars: byId("bars"),
      summary: byId("next-summary"),
    };
    this.#keys = roving(this.#places.bars, ".bar-row");
  }

  // What follows `context`, {text} or {ids}; `drawnId` is the token that stands there already.
  show(context, where, drawnId = null) {
    this.expire();
    this.#context = context;
    this.#drawnId = drawnId;
    this.#places.where.textContent = where;
    this.refresh();
  }

  // The bars are of another context from now on, and nothing can be chosen until they are drawn.
  expire() {
    clearTimeout(this.#timer);
    this.#question.cancel();
    this.#places.bars.setAttribute("aria-busy", "true");
  }

  // While text streams the bars would be of a moment long gone.
  pause() {
    this.expire();
    this.#places.where.textContent = "after the text, when it is done";
    this.#places.bars.classList.add("stale");
  }

  refresh() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), DELAY);
  }

  // The focus goes to the bars as soon as they are those of the context.
  focusWhenDrawn() {
    this.#takesFocus = true;
  }

  async #ask() {
    if (!this.#context) return;
    const { bars, summary } = this.#places;
    const sampling = this.#options.sampling();
    try {
      const also = this.#drawnId === null ? [] : [this.#drawnId];
      const body = { ...this.#context, top: SHOWN, also, sampling };
      const found = await this.#question.ask("playground/next", body);
      if (found) this.#draw(found);
    } catch (error) {
      this.#rows.clear();
      bars.replaceChildren();
      bars.removeAttribute("aria-busy");
      this.#places.scale.textContent = "";
      summary.textContent = error.message;
    }
  }

  #draw(found) {
    const { bars, scale, summary } = this.#places;
    const largest = Math.max(...found.candidates.flatMap((each) => [each.before, each.after]));
    const width = SCALES.find((each) => each >= largest) ?? 1;
    scale.textContent = `0 to ${percent(width).replace(".0", "")}`;
    const rows = new Map();
    found.candidates.forEach((candidate, place) => {
      const row = this.#rows.get(candidate.id) ?? this.#newRow(candidate);
      row.ids = found.ids;
      row.show(candidate, width, candidate.id === this.#drawnId);
      rows.set(candidate.id, row);
      // Moved only where it has to be: an element that is moved loses the focus.
      const there = bars.children[place] ?? null;
      if (there !== row.button) bars.insertBefore(row.button, there);
    });
    this.#rows = rows;
    while (bars.children.length > found.candidates.length) bars.lastChild.remove();
    bars.classList.remove("stale");
    bars.removeAttribute("aria-busy");
    this.#keys.refresh();
    if (this.#takesFocus) (bars.querySelector(".drawn") ?? bars.firstChild).focus();
    this.#takesFocus = false;
    summary.textContent = summaryOf(found);
  }

  #newRow(candidate) {
    const row = new Row(candidate, (chosen, byKeyboard) => {
      const isBusy = this.#places.bars.hasAttribute("aria-busy");
      if (!isBusy) this.#onChoose(chosen, row.ids, byKeyboard);
    });
    return row;
  }
}
