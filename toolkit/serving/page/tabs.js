// Tabs as the ARIA practices describe them: arrow keys move, the tab that has the focus is shown.

import { roving } from "./roving.js";

// `onShow(id)` is told the panel that is shown.
export function startTabs(list, onShow) {
  const tabs = [...list.querySelectorAll("[role=tab]")];

  function show(chosen) {
    for (const tab of tabs) {
      const selected = tab === chosen;
      tab.setAttribute("aria-selected", String(selected));
      document.getElementById(tab.getAttribute("aria-controls")).hidden = !selected;
    }
    keys.setCurrent(chosen);
    const id = chosen.getAttribute("aria-controls");
    // The address names the tab, so that a link to it can be kept. It is not the id of an element:
    // the Tab key would begin there and pass over the header.
    history.replaceState(null, "", `#/${id}`);
    onShow(id);
  }

  const keys = roving(list, "[role=tab]", { onMove: show });
  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) show(tab);
  });
  show(tabs.find((tab) => `#/${tab.getAttribute("aria-controls")}` === location.hash) ?? tabs[0]);
}
