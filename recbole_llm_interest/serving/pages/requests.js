/** Name under which the tab keeps the API key; the browser forgets it with the tab. */
const KEY = "llm-interest-key";
/** How long an answer may take, ms: longer than the service lets a request wait. */
const PATIENCE = 30_000;
/** What a header can hold. */
const SENDABLE = /^[\x21-\x7e]*$/;

/** Why there is no answer: one line for the reader. */
export class ServiceError extends Error {
  /**
   * @param {string} message
   * @param {{asksForKey?: boolean, canBeRepeated?: boolean}} options
   */
  constructor(message, { asksForKey = false, canBeRepeated = false } = {}) {
    super(message);
    this.asksForKey = asksForKey;
    this.canBeRepeated = canBeRepeated;
  }
}

/** Gives each request a signal by which the next one ends it, so that only the latest answer is shown. */
export class Latest {
  #controller = new AbortController();

  next() {
    this.#controller.abort();
    this.#controller = new AbortController();
    return this.#controller.signal;
  }
}

/** Whether a request was ended because a later one has overtaken it. */
export function isOvertaken(error) {
  return error.name === "AbortError";
}

export function rememberKey(key) {
  sessionStorage.setItem(KEY, key);
}

function rememberedKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

/** What the service says of its model. */
export function getModel(signal) {
  return request("/model", { signal });
}

/** Items whose title or id has a text. */
export function findItems(query, count, signal) {
  return request(`/items?${new URLSearchParams({ query, k: count })}`, { signal });
}

/** What would be recommended. Nothing is stored. */
export function preview(question, signal) {
  return request("/previews", { method: "POST", body: JSON.stringify(question), signal });
}

async function request(path, { method = "GET", body, signal }) {
  const key = rememberedKey();
  if (!SENDABLE.test(key)) {
    throw refusedKey(key);
  }
  const headers = { ...(key && { Authorization: `Bearer ${key}` }), ...(body && { "Content-Type": "application/json" }) };
  const ends = AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]);
  const { response, answer } = await answered(path, { method, body, headers, signal: ends, cache: "no-store" });
  signal.throwIfAborted();
  if (response.status === 401) {
    throw refusedKey(key);
  }
  if (!response.ok) {
    throw new ServiceError(`The service refuses this: ${answer?.error ?? `status ${response.status}`}.`, {
      canBeRepeated: response.status === 429 || response.status >= 500,
    });
  }
  return answer;
}

async function answered(path, options) {
  try {
    const response = await fetch(path, options);
    return { response, answer: await response.json() };
  } catch (error) {
    if (isOvertaken(error)) {
      throw error;
    }
    throw new ServiceError("The service does not answer. What you have entered is kept.", { canBeRepeated: true });
  }
}

function refusedKey(key) {
  const reason = key ? "The service refuses this key." : "This service needs a key.";
  return new ServiceError(reason, { asksForKey: true });
}
