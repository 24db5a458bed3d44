// Times: relative ones tick, absolute ones are in the reader's zone; all by the server's clock.

import { words } from './words.js';

let offset = 0;

/** Notes the server's time (milliseconds), so that a wrong clock here does not matter. */
export function setServerNow(ms) {
  offset = ms - Date.now();
}

/** The server's time now, in milliseconds. */
export const serverNow = () => Date.now() + offset;

/** A length of time in at most two units: `45 s`, `3 min 5 s`, `2 h`, `4 d 1 h`. */
export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  const u = words.units;
  const two = (a, ua, b, ub) => (b ? `${a} ${ua} ${b} ${ub}` : `${a} ${ua}`);
  if (s < 60) return `${s} ${u.s}`;
  if (s < 3600) return two(Math.floor(s / 60), u.min, s < 600 ? s % 60 : 0, u.s);
  if (s < 86400) return two(Math.floor(s / 3600), u.h, Math.floor((s % 3600) / 60), u.min);
  return two(Math.floor(s / 86400), u.d, Math.floor((s % 86400) / 3600), u.h);
}

/** A moment as seen from now: `3 s ago`, `in 4 min`. */
export function relative(at, now) {
  const away = at - now;
  if (Math.abs(away) < 1000) return words.justNow;
  return away < 0 ? words.ago(span(-away)) : words.in(span(away));
}

/** How long until something that is to come. Once it is due, however long ago, it comes any moment. */
export const untilDue = (at, now, due = words.now) => (at - now < 1000 ? due : words.in(span(at - now)));

const pad = (n, digits = 2) => String(n).padStart(digits, '0');

/** HH:MM:SS.mmm in the reader's zone. */
export function clock(ms) {
  const d = new Date(ms);
  return `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}.${pad(d.getMilliseconds(), 3)}`;
}

/** The day in the reader's zone, as a sortable text. */
export function day(ms) {
  const d = new Date(ms);
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())}`;
}

/** Both local and UTC, for a tooltip. */
export const full = (ms) => `${day(ms)} ${clock(ms)} (UTC ${new Date(ms).toISOString()})`;

function show(time, now) {
  const at = Date.parse(time.dateTime);
  if (Number.isNaN(at)) return;
  let text;
  if (time.classList.contains('soon')) text = untilDue(at, now, words.inAMoment);
  else if (time.classList.contains('coming')) text = untilDue(at, now);
  else if (time.classList.contains('ago')) text = relative(at, now);
  else if (time.classList.contains('since')) text = span(now - at);
  else if (time.dataset.shown === time.dateTime) return;
  else text = time.classList.contains('clock') ? clock(at).slice(0, 8) : `${day(at)} ${clock(at).slice(0, 8)}`;
  if (time.textContent !== text) time.textContent = text;
  if (time.dataset.shown !== time.dateTime) {
    time.dataset.shown = time.dateTime;
    time.title = full(at);
  }
}

/** Writes every time below `root`; lines of the log write their own. */
export function showTimes(root = document) {
  const now = serverNow();
  for (const time of root.querySelectorAll('time[datetime]')) {
    if (!time.closest('#log-lines')) show(time, now);
  }
}

/** Lets times tick, while the page can be seen. */
export function startTimes() {
  showTimes();
  setInterval(() => { if (!document.hidden) showTimes(); }, 1000);
}
