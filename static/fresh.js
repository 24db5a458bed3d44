// Parts of a page that say how things stand now: asked for anew, and replaced only if they say something else.

import { serverNow } from './times.js';
import { words } from './words.js';

const PENDING_MS = 1000;
const SETTLED_MS = 15000;
/** One look that fails is nobody's business. */
const MANY = 2;

/** What a part says, without what only tells the time. */
function says(part) {
  const copy = part.cloneNode(true);
  for (const time of copy.querySelectorAll('time')) time.remove();
  return copy.textContent.replace(/\s+/g, ' ').trim();
}

/** Whether the reader types in it, or has something of it open. */
function inHands(part) {
  return Boolean(part.querySelector('details[open], :is(input, select, textarea):focus'));
}

const twin = (element, root) =>
  [...root.querySelectorAll(element.tagName)].find((other) => other.textContent === element.textContent);

/** A part that says the same says it of later moments: a heartbeat, while a node lives. */
function retime(old, now) {
  const times = now.querySelectorAll('time[datetime]');
  old.querySelectorAll('time[datetime]').forEach((time, at) => {
    if (times[at] && time.dateTime !== times[at].dateTime) time.dateTime = times[at].dateTime;
  });
}

/** Asks once. `{ok}`; if not, `{status, title}`: how the page of the problem is called, if there was any answer. */
async function freshen(url, shown) {
  const answer = await fetch(url, { headers: { Accept: 'text/html' }, redirect: 'manual', signal: AbortSignal.timeout(10000) });
  // signed out: what is asked for next says so
  if (answer.type === 'opaqueredirect') return { ok: true };
  const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
  if (!answer.ok) return { ok: false, status: answer.status, title: page.querySelector('.problem h1')?.textContent };
  for (const old of document.querySelectorAll('[data-fresh]')) {
    if (old.dataset.fresh !== url) continue;
    const now = page.getElementById(old.id);
    if (!now) continue;
    const same = says(now) === says(old);
    if (same || inHands(old)) {
      if (same) retime(old, now);
      shown(old);
      continue;
    }
    const focus = old.contains(document.activeElement) ? document.activeElement : null;
    old.replaceWith(document.adoptNode(now));
    shown(now);
    // a button that had the focus may be gone: then the reader goes on from the page itself
    if (focus) (twin(focus, now) ?? document.querySelector('main')).focus({ preventScroll: true });
  }
  return { ok: true };
}

/** Whether a page that is live says already that its web node is lost. It can't while its connection is up: a proxy may refuse all else. */
function saysSoItself() {
  const { live, connection } = document.querySelector('main').dataset;
  return Boolean(live) && connection !== 'open';
}

/** Above the page, while what it shows can't be had anew: why, and since when. */
function tell(failed, shown) {
  const place = document.getElementById('alerts');
  const told = place?.querySelector('.unfresh');
  if (!place || (!failed.title && saysSoItself())) { told?.remove(); return; }
  const note = document.createElement('p');
  note.className = 'warning unfresh';
  note.setAttribute('role', 'alert');
  note.innerHTML = '<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><use href="#i-overdue"/></svg><span class="grow"></span>';
  const since = document.createElement('time');
  since.dateTime = new Date(failed.since).toISOString();
  const [before, after] = words.notFresh(failed.title, failed.status);
  note.lastChild.append(`${before} `, since, after);
  if (told && says(told) === says(note)) return;
  told?.remove();
  place.append(note);
  shown(place);
}

/** Follows every `[data-fresh]`: each second while something in it is pending, else as often as it says, or now and then; not while nobody looks. */
export function startFresh(shown) {
  const urls = new Set([...document.querySelectorAll('[data-fresh][id]')].map((part) => part.dataset.fresh));
  for (const url of urls) {
    const own = () => [...document.querySelectorAll('[data-fresh]')].filter((part) => part.dataset.fresh === url);
    const isPending = () => own().some((part) => part.querySelector('.outcome-queued'));
    // a part may say how soon what it tells can be another
    const every = () => Math.min(...own().map((part) => Number(part.dataset.freshEvery) || SETTLED_MS), SETTLED_MS);
    let timer;
    let failures = 0;
    let since = 0;
    const again = () => {
      clearTimeout(timer);
      timer = setTimeout(look, isPending() || failures > 0 ? PENDING_MS : every());
    };
    const look = async () => {
      clearTimeout(timer);
      if (document.hidden) return;
      // whoever does not answer now is asked again
      const came = await freshen(url, shown).catch(() => ({ ok: false }));
      failures = came.ok ? 0 : failures + 1;
      if (failures === 1) since = serverNow();
      const failed = failures >= MANY;
      for (const part of own()) {
        part.classList.toggle('old', failed);
        if (part.id !== 'alerts') continue;
        if (failed) tell({ ...came, since }, shown);
        else if (came.ok) part.querySelector('.unfresh')?.remove();
      }
      again();
    };
    document.addEventListener('visibilitychange', () => { if (!document.hidden) look(); });
    again();
  }
}
