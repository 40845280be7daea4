// The API key, where the server wants one: asked for once, kept for this tab alone.

const KEY = "toolkit-api-key";
const dialog = document.getElementById("key-dialog");
const field = document.getElementById("key");
let asking = null;
let inMemory = null; // where the browser keeps nothing

export function apiKey() {
  try {
    return sessionStorage.getItem(KEY) ?? inMemory;
  } catch {
    return inMemory;
  }
}

function keep(key) {
  inMemory = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // it stays in memory
  }
}

// Whether a key was given. Several questions at once are one dialog.
export function askForKey(refused) {
  asking ??= new Promise((resolve) => {
    document.getElementById("key-hint").textContent = refused
      ? "The server refused this key. Try another one."
      : "It is kept until this tab is closed.";
    field.value = "";
    dialog.returnValue = "";
    dialog.addEventListener(
      "close",
      () => {
        asking = null;
        const given = dialog.returnValue === "use" && field.value !== "";
        if (given) keep(field.value);
        resolve(given);
      },
      { once: true },
    );
    dialog.showModal();
  });
  return asking;
}
