// Buttons that copy a text.

import { announce, button, make } from "./dom.js";

const SHOWN_MS = 2000;

// name says to a screen reader what is copied; text() gives it.
export function copyButton(name, text) {
  const element = button("copy", "small", async () => {
    const isCopied = await copy(text());
    element.textContent = isCopied ? "copied" : "cannot copy";
    announce(isCopied ? `${name} copied` : `${name} cannot be copied; select it`);
    setTimeout(() => (element.textContent = "copy"), SHOWN_MS);
  });
  element.setAttribute("aria-label", `copy ${name}`);
  return element;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyFromField(text); // without TLS, on another machine, a page has no clipboard
  }
}

function copyFromField(text) {
  const field = make("textarea", "unseen");
  field.value = text;
  const before = document.activeElement;
  (before?.closest("dialog") ?? document.body).append(field); // outside of an open dialog nothing can be selected
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  before?.focus();
  return isCopied;
}
