// What the scripts of the page share.

export const LOST = "Network error: the connection failed or ended before the answer was complete.";

export const $ = (id) => document.getElementById(id);

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
