// What the scripts of the page share.

const LOST = "Network error: the connection failed or ended before the answer was complete.";

export const $ = (id) => document.getElementById(id);

/** An answer that is not the one that was asked for, in words. */
export class Refused extends Error {
  constructor(words, status) {
    super(words);
    this.status = status;
  }
}

/** Sends a request; throws Refused when the answer is an error. */
export async function ask(url, options) {
  const response = await fetch(url, { cache: "no-store", ...options });
  if (!response.ok) throw new Refused(await problem(response), response.status);
  return response;
}

/** Why a request failed. */
export function reason(error) {
  return error instanceof Refused ? error.message : LOST;
}

/** What an answer other than 200 says, in words. Its body is RFC 9457's, or of another kind. */
export async function problem(response) {
  const parts = await response.json().catch(() => null);
  const title = parts?.title || response.statusText || "Error";
  const detail = parts?.detail ? `: ${parts.detail}` : "";
  const retry = response.headers.get("Retry-After"); // in seconds
  return `${response.status} ${title}${detail}` + (retry ? ` (retry after ${retry}\u00a0s)` : "");
}

export function time(ms) {
  return ms < 1000 ? `${Math.round(ms)}\u00a0ms` : `${(ms / 1000).toFixed(2)}\u00a0s`;
}

/** The lines of an answer, as they come. */
export async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const ended = (rest + part.value).split("\n");
    rest = ended.pop();
    yield* ended;
  }
}
