// Light or dark: as the system says, until somebody chooses.

const KEY = "toolkit-theme";
const NAMES = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };

// Storage may be switched off; the choice then lasts as long as the page.
function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function remember(theme) {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // nothing is lost but the memory of it
  }
}

export function startTheme(button) {
  const order = Object.keys(NAMES);
  let theme = order.includes(remembered()) ? remembered() : "auto";

  function apply() {
    document.documentElement.dataset.theme = theme;
    button.textContent = NAMES[theme];
  }

  button.addEventListener("click", () => {
    theme = order[(order.indexOf(theme) + 1) % order.length];
    remember(theme);
    apply();
  });
  apply();
}
