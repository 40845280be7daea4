// The sampling options: a slider and an exact number each, and what is sent for them.

import { element } from "./show.js";

// `off` is the value at which an option changes nothing; it is then not sent at all. The
// temperature begins where that of `toolkit generate` does.
const OPTIONS = [
  { name: "temperature", title: "Temperature", min: 0, max: 2, step: 0.05, value: 0.7 },
  { name: "top_k", title: "Top-k", min: 0, max: 100, step: 1, value: 0, off: 0 },
  { name: "top_p", title: "Top-p", min: 0.01, max: 1, step: 0.01, value: 1, off: 1 },
  { name: "min_p", title: "Min-p", min: 0, max: 0.5, step: 0.01, value: 0, off: 0 },
  {
    name: "repetition_penalty",
    title: "Repetition penalty",
    min: 1,
    max: 2,
    step: 0.05,
    value: 1,
    off: 1,
  },
  { name: "max_tokens", title: "Max tokens", min: 1, max: 500, step: 1, value: 100 },
];
const LARGEST_SEED = 2 ** 31 - 1;

class Option {
  constructor(about, onChange) {
    this.about = about;
    const { name, title, min, max, step } = about;
    this.value = about.value;
    const id = `option-${name}`;
    const range = { min, max, step };
    this.slider = element("input", { type: "range", id, ...range });
    const spoken = { "aria-label": `${title}, as a number` };
    this.number = element("input", { type: "number", ...spoken, ...range });
    this.row = element(
      "div",
      { className: "option" },
      element("label", { for: id, text: title }),
      this.slider,
      this.number,
    );
    this.slider.addEventListener("input", () => this.#take(this.slider, onChange));
    this.number.addEventListener("input", () => this.#take(this.number, onChange));
    // A number that cannot be goes back to the last one that could.
    this.number.addEventListener("change", () => this.show());
    this.show();
  }

  get isOff() {
    return this.value === this.about.off;
  }

  set(value) {
    this.value = value;
    this.show();
  }

  show(except) {
    if (except !== this.slider) this.slider.value = this.value;
    if (except !== this.number) this.number.value = this.value;
    this.row.classList.toggle("off", this.isOff);
    this.slider.setAttribute("aria-valuetext", this.isOff ? "off" : String(this.value));
  }

  #take(field, onChange) {
    if (field.value === "" || !field.validity.valid) return;
    this.value = Number(field.value);
    this.show(field);
    onChange(this.about.name);
  }
}

export class SamplingOptions {
  #options = [];
  #seed;

  // `onChange(name)` is called with every move.
  constructor(place, resetButton, model, onChange) {
    for (const about of OPTIONS) {
      const most = about.name === "top_k" ? model.vocab_size : Infinity;
      const option = new Option({ ...about, max: Math.min(about.max, most) }, onChange);
      this.#options.push(option);
      place.append(option.row);
    }
    this.#seed = element("input", {
      type: "number",
      id: "option-seed",
      min: 0,
      max: LARGEST_SEED,
      step: 1,
      placeholder: "new each time",
    });
    place.append(
      element(
        "div",
        { className: "option seed" },
        element("label", { for: "option-seed", text: "Seed" }),
        this.#seed,
      ),
    );
    resetButton.addEventListener("click", () => {
      for (const option of this.#options) option.set(option.about.value);
      this.#seed.value = "";
      onChange("reset");
    });
  }

  // What changes the distribution.
  sampling() {
    const wanted = this.#options.filter((each) => each.about.name !== "max_tokens" && !each.isOff);
    return Object.fromEntries(wanted.map((each) => [each.about.name, each.value]));
  }

  maxTokens() {
    return this.#options.find((each) => each.about.name === "max_tokens").value;
  }

  // The seed to draw with: the one that was typed, or a new one. It is always sent, so that the
  // page can name it.
  seed() {
    if (this.#seed.value !== "" && this.#seed.validity.valid) return Number(this.#seed.value);
    return crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
  }
}
