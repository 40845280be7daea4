// The generation tab: a prompt, text that streams, alternatives, branches.
//
// Text comes from /v1/completions, as for every client of the server. A branch goes on from ids,
// not from text: another split of the same text would be another context.

import { announce, announceText } from "./announce.js";
import { ServerError, postJSON, streamCompletion } from "./api.js";
import { BranchList } from "./branches.js";
import { DistributionPanel } from "./distribution.js";
import { SamplingOptions } from "./options.js";
import { Output, drawScale } from "./output.js";
import { label } from "./show.js";
import { hideTooltip } from "./tooltip.js";

const TYPING_DELAY = 200; // milliseconds
const ENDS = { eos: "the text ended", length: "max tokens", time: "the server’s time was over" };

const byId = (id) => document.getElementById(id);

// Logprobs name a token by its text, or, where it is a part of a character, by "bytes:\xe2\x80".
function contentOf(name) {
  const escaped = /^bytes:((?:\\x[0-9a-f]{2})+)$/u.exec(name);
  if (escaped) return { text: null, bytes: escaped[1].replaceAll("\\x", "") };
  const bytes = [...new TextEncoder().encode(name)];
  return { text: name, bytes: bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("") };
}

function tokensOf(choice) {
  const { tokens, token_ids: ids, token_logprobs: logprobs } = choice.logprobs;
  return tokens.map((name, index) => ({
    id: ids[index],
    ...contentOf(name),
    probability: Math.exp(logprobs[index]),
  }));
}

export class GenerateTab {
  #model;
  #shown = null; // the branch on the screen
  #selected = null; // the index of a token of it
  #running = null; // an AbortController while text streams
  #typing = null;
  #prompt = byId("prompt");
  #error = byId("generate-error");
  #progress = byId("progress");
  #options;
  #panel;
  #branches;
  #output;

  constructor(model) {
    this.#model = model;
    drawScale(byId("scale"));
    this.#options = new SamplingOptions(byId("options"), byId("reset"), model, (name) => {
      if (name !== "max_tokens" && !this.#running) this.#panel.refresh();
    });
    this.#panel = new DistributionPanel(this.#options, (...choice) => this.#branch(...choice));
    this.#branches = new BranchList(byId("branches-section"), byId("branches"), (branch) => {
      if (!this.#running) this.#show(branch);
      byId("branches").querySelector("[aria-current]")?.focus();
    });
    this.#output = new Output(byId("output"), (...choice) => this.#select(...choice));
    this.#listen();
    this.#toPrompt();
  }

  #listen() {
    byId("prompt-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#generate();
    });
    byId("stop").addEventListener("click", () => this.#running?.abort());
    byId("continue").addEventListener("click", () => this.#run(this.#shown));
    byId("to-end").addEventListener("click", () => this.#toEnd());
    this.#prompt.addEventListener("input", () => {
      this.#panel.expire();
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#running || this.#toPrompt(), TYPING_DELAY);
    });
    addEventListener("keydown", (event) => {
      if (byId("generate").hidden) return;
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.#generate();
      } else if (event.key === "Escape") {
        this.#escape(event);
      }
    });
  }

  // Esc stops what streams; otherwise it leads back from the alternatives to their token.
  #escape(event) {
    if (this.#running) {
      this.#running.abort();
    } else if (this.#selected !== null && byId("next").contains(event.target)) {
      this.#output.focus(this.#selected);
    } else if (this.#selected !== null) {
      this.#toEnd();
    }
  }

  #generate() {
    if (this.#running) return;
    clearTimeout(this.#typing);
    this.#run(this.#branches.grow(this.#prompt.value));
  }

  // Go on with `token` after `ids`: at the selected token, or at the end of what the panel shows.
  #branch(token, ids, byKeyboard) {
    if (this.#running) return;
    let parent = this.#shown;
    let at = this.#selected ?? parent?.tokens.length;
    if (this.#atPrompt()) {
      parent = this.#branches.grow(this.#prompt.value);
      parent.promptIds = ids;
      parent.end = "not generated";
      at = 0;
    }
    const branch = this.#branches.fork(parent, at, { ...token, probability: token.before });
    this.#run(branch);
    if (byKeyboard) this.#output.focus(at);
  }

  async #run(branch) {
    const controller = new AbortController();
    this.#start(controller);
    const began = performance.now();
    const before = branch.tokens.length;
    const seed = this.#options.seed();
    branch.isRunning = true;
    branch.end = "running";
    this.#show(branch);
    const pace = () => {
      const count = branch.tokens.length - before;
      if (count === 0) return `seed ${seed}`;
      const speed = count / ((performance.now() - began) / 1000);
      return `${count} ${count === 1 ? "token" : "tokens"}, ${speed.toFixed(0)}/s, seed ${seed}`;
    };
    try {
      branch.promptIds ??= await this.#idsOf(branch.prompt, controller.signal);
      for await (const choice of this.#choices(branch, seed, controller.signal)) {
        const tokens = tokensOf(choice);
        branch.tokens.push(...tokens);
        this.#output.add(tokens);
        announceText(choice.text);
        this.#progress.textContent = pace();
        if (choice.ended_by) branch.end = ENDS[choice.ended_by] ?? choice.ended_by;
      }
    } catch (error) {
      if (error.name === "AbortError") {
        branch.end = "stopped";
      } else {
        branch.end = "failed";
        this.#fail(error);
      }
    }
    branch.isRunning = false;
    this.#progress.textContent = `${pace()} — ${branch.end}`;
    announce(this.#progress.textContent);
    this.#stop(branch);
  }

  async *#choices(branch, seed, signal) {
    const body = {
      model: this.#model.name,
      prompt: branch.idsBefore(branch.tokens.length),
      max_tokens: this.#options.maxTokens(),
      ...this.#options.sampling(),
      seed,
      logprobs: 0, // of the drawn tokens alone
    };
    for await (const piece of streamCompletion(body, signal)) {
      if (piece.choices.length > 0) yield piece.choices[0];
    }
  }

  // An empty prompt has ids too: those that the model starts a text with.
  async #idsOf(text, signal) {
    return (await postJSON("playground/next", { text, top: 1 }, signal)).ids;
  }

  #start(controller) {
    this.#running = controller;
    this.#error.hidden = true;
    this.#progress.textContent = "";
    hideTooltip();
    this.#panel.pause();
    byId("to-end").hidden = true;
    byId("output").setAttribute("aria-busy", "true");
    this.#buttons();
    announce("Generating");
  }

  #stop(branch) {
    this.#running = null;
    this.#output.finish();
    byId("output").removeAttribute("aria-busy");
    this.#buttons();
    this.#branches.draw(branch);
    this.#toEnd();
  }

  #buttons() {
    byId("start").disabled = this.#running !== null;
    byId("stop").disabled = this.#running === null;
    byId("continue").disabled = this.#running !== null || this.#shown === null;
  }

  #fail(error) {
    const known = error instanceof ServerError;
    this.#error.textContent = known ? error.message : `The page failed: ${error.message}`;
    this.#error.hidden = false;
    if (!known) console.error(error);
  }

  #show(branch) {
    this.#shown = branch;
    this.#prompt.value = branch.prompt;
    byId("output-hint").hidden = true;
    this.#output.show(branch);
    this.#branches.draw(branch);
    this.#buttons();
    if (this.#running) return;
    this.#output.finish();
    this.#toEnd();
  }

  #select(index, byKeyboard) {
    if (this.#running) return;
    this.#selected = index;
    this.#output.select(index);
    const token = this.#shown.tokens[index];
    const context = { ids: this.#shown.idsBefore(index) };
    this.#panel.show(context, `in place of “${label(token)}”, token ${index + 1}`, token.id);
    byId("to-end").hidden = false;
    hideTooltip();
    if (byKeyboard) this.#panel.focusWhenDrawn();
    this.#reveal(byId("next"));
  }

  // On a small screen the panel is far below the text.
  #reveal(section) {
    const top = section.getBoundingClientRect().top;
    if (top < 0 || top > innerHeight * 0.7) section.scrollIntoView();
  }

  #atPrompt() {
    return this.#shown === null || this.#prompt.value !== this.#shown.prompt;
  }

  // The panel follows the prompt while it is typed.
  #toPrompt() {
    this.#unselect();
    if (this.#atPrompt()) {
      this.#panel.show({ text: this.#prompt.value }, "after the prompt");
    } else {
      this.#toEnd();
    }
  }

  #toEnd() {
    this.#unselect();
    if (this.#atPrompt() || !this.#shown.promptIds) {
      this.#panel.show({ text: this.#prompt.value }, "after the prompt");
      return;
    }
    const ids = this.#shown.idsBefore(this.#shown.tokens.length);
    this.#panel.show({ ids }, "after the text");
  }

  #unselect() {
    this.#selected = null;
    this.#output.select(null);
    byId("to-end").hidden = true;
  }
}
