// Many elements, one stop of the Tab key: arrow keys move among them, Home and End to the ends.
// Up and down go to the line above and below, where elements flow like text.

function verticalNeighbour(items, from, direction) {
  const here = from.getBoundingClientRect();
  const middle = here.left + here.width / 2;
  let best = null;
  let bestScore = Infinity;
  for (const item of items) {
    const box = item.getBoundingClientRect();
    const lines = (box.top - here.top) * direction;
    if (lines < here.height / 2) continue; // on the same line, or on the wrong side
    // The nearest line first, within it the nearest place.
    const score = lines * 1000 + Math.abs(box.left + box.width / 2 - middle);
    if (score < bestScore) [best, bestScore] = [item, score];
  }
  return best;
}

export function roving(container, selector, { onMove = () => {} } = {}) {
  let current = null;

  function items() {
    return [...container.querySelectorAll(selector)];
  }

  function setCurrent(item) {
    if (current && current !== item) current.tabIndex = -1;
    current = item;
    if (item) item.tabIndex = 0;
  }

  // After elements came or went: one of them can always be reached.
  function refresh() {
    if (!current || !container.contains(current)) setCurrent(container.querySelector(selector));
  }

  function target(key, all, from) {
    const place = all.indexOf(from);
    switch (key) {
      case "ArrowRight":
        return all[place + 1];
      case "ArrowLeft":
        return all[place - 1];
      case "ArrowDown":
        return verticalNeighbour(all, from, 1);
      case "ArrowUp":
        return verticalNeighbour(all, from, -1);
      case "Home":
        return all[0];
      case "End":
        return all.at(-1);
      default:
        return undefined;
    }
  }

  container.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const from = event.target.closest(selector);
    if (!from) return;
    const to = target(event.key, items(), from);
    if (!to) return;
    event.preventDefault();
    setCurrent(to);
    to.focus();
    onMove(to);
  });
  container.addEventListener("focusin", (event) => {
    const item = event.target.closest(selector);
    if (item) setCurrent(item);
  });

  return { refresh, setCurrent };
}
