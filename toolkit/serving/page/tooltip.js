// One box that says more about the element under the pointer, or the one that has the focus.

import { element } from "./show.js";

const box = document.getElementById("tooltip");
const MARGIN = 6; // pixels
let owner = null;

function place(target) {
  // A token that is broken over two lines has two boxes: the first one is meant.
  const anchor = target.getClientRects()[0] ?? target.getBoundingClientRect();
  const size = box.getBoundingClientRect();
  const widest = document.documentElement.clientWidth - size.width - MARGIN;
  const below = anchor.bottom + MARGIN;
  const fits = below + size.height < document.documentElement.clientHeight;
  box.style.left = `${Math.max(MARGIN, Math.min(anchor.left, widest))}px`;
  box.style.top = `${fits ? below : anchor.top - size.height - MARGIN}px`;
}

export function hideTooltip() {
  owner = null;
  box.hidden = true;
}

// `describe` gives the lines for an element, or null for none.
export function tooltips(container, selector, describe) {
  function show(event) {
    const target = event.target.closest(selector);
    if (!target || target === owner) return;
    const lines = describe(target);
    if (!lines) return;
    owner = target;
    box.replaceChildren(...lines.map((line) => element("div", { text: line })));
    box.hidden = false;
    place(target);
  }

  function leave(event) {
    if (owner && !owner.contains(event.relatedTarget)) hideTooltip();
  }

  container.addEventListener("pointerover", show);
  container.addEventListener("focusin", show);
  container.addEventListener("pointerout", leave);
  container.addEventListener("focusout", leave);
}

addEventListener("scroll", hideTooltip, { capture: true, passive: true });
addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTooltip();
});
