// Texts that share their beginnings: each branch is a prompt, the tokens after it, and where it
// left its parent. Nothing is ever overwritten, so that one can always go back.

import { roving } from "./roving.js";
import { element, label, percent } from "./show.js";

export class Branch {
  constructor(number, prompt, parent = null, at = 0) {
    this.number = number;
    this.prompt = prompt;
    this.promptIds = null; // until the server has said them
    this.parent = parent;
    this.at = at; // the first token that is its own
    this.tokens = parent ? parent.tokens.slice(0, at) : [];
    this.isRunning = false;
    this.end = "";
  }

  // The ids up to token number `count`.
  idsBefore(count) {
    return [...this.promptIds, ...this.tokens.slice(0, count).map((token) => token.id)];
  }
}

export class BranchList {
  #branches = [];
  #place;
  #section;
  #onShow;
  #keys;

  constructor(section, place, onShow) {
    this.#section = section;
    this.#place = place;
    this.#onShow = onShow;
    this.#keys = roving(place, "button");
  }

  grow(prompt) {
    return this.#add(new Branch(this.#branches.length + 1, prompt));
  }

  // A branch that has the first `at` tokens of `from` and then `token`, chosen by hand.
  fork(from, at, token) {
    // Where `from` has those from its own parent, that is the parent of the new one, too.
    let parent = from;
    while (parent.parent && at <= parent.at) parent = parent.parent;
    const branch = new Branch(this.#branches.length + 1, parent.prompt, parent, at);
    branch.promptIds = parent.promptIds;
    branch.tokens.push({ ...token, byHand: true });
    return this.#add(branch);
  }

  draw(shown) {
    this.#section.hidden = this.#branches.length === 0;
    const roots = this.#branches.filter((branch) => branch.parent === null);
    this.#place.replaceChildren(this.#listOf(roots, shown));
    this.#keys.setCurrent(this.#place.querySelector("[aria-current]"));
    this.#keys.refresh();
  }

  #add(branch) {
    this.#branches.push(branch);
    return branch;
  }

  #listOf(branches, shown) {
    return element("ol", {}, ...branches.map((branch) => this.#itemOf(branch, shown)));
  }

  #itemOf(branch, shown) {
    const length = branch.tokens.length;
    const count = branch.isRunning ? "" : `${length} ${length === 1 ? "token" : "tokens"}`;
    const button = element(
      "button",
      { type: "button", className: "branch", tabindex: -1 },
      element("span", { className: "branch-name", text: this.#nameOf(branch) }),
      element("span", { className: "soft", text: [count, branch.end].filter(Boolean).join(", ") }),
    );
    if (branch === shown) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => this.#onShow(branch));
    const item = element("li", {}, button);
    const children = this.#branches.filter((each) => each.parent === branch);
    if (children.length > 0) item.append(this.#listOf(children, shown));
    return item;
  }

  #nameOf(branch) {
    if (branch.parent === null) {
      const start = branch.prompt.trim().replace(/\s+/gu, " ");
      const shown = start.length > 40 ? `${start.slice(0, 40)}…` : start;
      return `${branch.number}. ${shown ? `“${shown}”` : "no prompt"}`;
    }
    const token = branch.tokens[branch.at];
    const chosen = `“${label(token)}” (${percent(token.probability)})`;
    return `${branch.number}. at token ${branch.at + 1}: ${chosen}`;
  }
}
