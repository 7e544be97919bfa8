// Numbers, durations and times for people, in the browser's language and on a 24-hour clock.

const language = navigator.languages.filter(isLanguage);
const exact = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const rounded = new Intl.NumberFormat(language, { maximumSignificantDigits: 2 });
const hands = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const minutes = new Intl.DateTimeFormat(language, hands);
const clock = new Intl.DateTimeFormat(language, { ...hands, second: "2-digit" });
const dayAndClock = new Intl.DateTimeFormat(language, {
  month: "2-digit", day: "2-digit", ...hands, second: "2-digit",
});

export const count = (value) => (value == null ? "–" : exact.format(value));
export const short = (value) => (value == null ? "–" : (value >= 100 ? exact : rounded).format(value));
export const percent = (fraction) => `${exact.format(Math.floor(fraction * 100))} %`;

export function seconds(value) {
  if (value == null) return "–";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    if (value >= size) return `${short(value / size)} ${unit}`;
  }
  return `${short(value * 1000)} ms`;
}

export function bytes(value) {
  if (!value) return "–";
  return value < 2 ** 30 ? `${exact.format(value / 2 ** 20)} MiB` : `${short(value / 2 ** 30)} GiB`;
}

export const toMinute = (unix) => minutes.format(unix * 1000);
export const toSecond = (unix) => clock.format(unix * 1000);

// A time of today without the day.
export function moment(unix) {
  const isToday = new Date(unix * 1000).toDateString() === new Date().toDateString();
  return (isToday ? clock : dayAndClock).format(unix * 1000);
}

// Chromium may give en-US@posix, which Intl refuses.
function isLanguage(name) {
  try {
    return Intl.getCanonicalLocales(name).length > 0;
  } catch {
    return false;
  }
}
