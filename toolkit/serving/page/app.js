// The page comes to life: its parts are made and joined here, and nowhere else.

import { getJSON } from "./api.js";
import { GenerateTab } from "./generate.js";
import { startTabs } from "./tabs.js";
import { startTheme } from "./theme.js";
import { TokenizeTab } from "./tokenize.js";

startTheme(document.getElementById("theme"));
const tokenizeTab = new TokenizeTab();
startTabs(document.querySelector("[role=tablist]"), (id) => {
  if (id === "tokenize") tokenizeTab.open();
});

function formatCount(count) {
  if (count >= 1e9) return `${(count / 1e9).toFixed(1)}B`;
  if (count >= 1e6) return `${(count / 1e6).toFixed(1)}M`;
  return count.toLocaleString("en");
}

function describe(model) {
  document.title = `${model.name} · Playground`;
  document.getElementById("model").textContent = [
    model.name,
    `${formatCount(model.num_params)} parameters`,
    `${model.tokenizer}, ${model.vocab_size.toLocaleString("en")} tokens`,
    `context ${model.block_size.toLocaleString("en")}`,
  ].join(" · ");
}

try {
  const model = await getJSON("playground/model");
  describe(model);
  new GenerateTab(model);
} catch (error) {
  const place = document.getElementById("generate-error");
  place.textContent = `${error.message} Reload the page to try again.`;
  place.hidden = false;
}
