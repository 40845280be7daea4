// Talking to the server: questions in JSON, and completions that stream.
// Addresses are relative to the page, so that it also works behind a path of a proxy.

import { apiKey, askForKey } from "./key.js";

export class ServerError extends Error {}

async function errorOf(response) {
  let message = `The server answered ${response.status} ${response.statusText}.`;
  try {
    const body = await response.json();
    message = body.error?.message ?? message;
  } catch {
    // no JSON: the status has to do
  }
  return new ServerError(message);
}

async function send(path, options = {}) {
  for (;;) {
    const key = apiKey();
    const headers = { ...options.headers };
    if (key !== null) headers.Authorization = `Bearer ${key}`;
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError("The server cannot be reached.");
    }
    if (response.ok) return response;
    // Another question may have brought a key in the meantime: then this one just goes again.
    const again = response.status === 401 && (apiKey() !== key || (await askForKey(key !== null)));
    if (!again) throw await errorOf(response);
  }
}

export async function getJSON(path) {
  return (await send(path)).json();
}

function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return send(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

export async function postJSON(path, body, signal) {
  return (await post(path, body, signal)).json();
}

async function readOrFail(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The connection to the server was lost.");
  }
}

// The events of a completion, one object a piece. Leaving the loop ends the request.
export async function* streamCompletion(body, signal) {
  const response = await post("v1/completions", { ...body, stream: true }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await readOrFail(reader);
    if (done) throw new ServerError("The connection ended before the text did.");
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      if (!event.startsWith("data: ")) continue; // a comment that keeps the line open
      const data = event.slice("data: ".length);
      if (data === "[DONE]") return;
      const piece = JSON.parse(data);
      if (piece.error) throw new ServerError(piece.error.message);
      yield piece;
    }
  }
}

// The last question counts: asking again cancels the one before. Undefined for a cancelled one.
export class LatestQuestion {
  #controller = null;

  async ask(path, body) {
    this.cancel();
    const controller = new AbortController();
    this.#controller = controller;
    try {
      const answer = await postJSON(path, body, controller.signal);
      return controller.signal.aborted ? undefined : answer;
    } catch (error) {
      if (controller.signal.aborted) return undefined;
      throw error;
    }
  }

  cancel() {
    this.#controller?.abort();
    this.#controller = null;
  }
}
