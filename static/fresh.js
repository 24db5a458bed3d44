// Parts of a page that say how things stand now: asked for anew, and replaced only if they say something else.

const PENDING_MS = 1000;
const SETTLED_MS = 15000;

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

async function freshen(url, shown) {
  const answer = await fetch(url, { headers: { Accept: 'text/html' }, redirect: 'manual', signal: AbortSignal.timeout(10000) });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
  for (const old of document.querySelectorAll('[data-fresh]')) {
    if (old.dataset.fresh !== url) continue;
    const now = page.getElementById(old.id);
    if (!now || says(now) === says(old) || inHands(old)) continue;
    const focus = old.contains(document.activeElement) ? document.activeElement : null;
    old.replaceWith(document.adoptNode(now));
    shown(now);
    // a button that had the focus may be gone: then the reader goes on from the page itself
    if (focus) (twin(focus, now) ?? document.querySelector('main')).focus({ preventScroll: true });
  }
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
    const again = () => {
      clearTimeout(timer);
      timer = setTimeout(look, isPending() ? PENDING_MS : every());
    };
    const look = async () => {
      clearTimeout(timer);
      if (document.hidden) return;
      // a node that does not answer now is asked again; the page says by itself that it is away
      try { await freshen(url, shown); } catch { /* again later */ }
      again();
    };
    document.addEventListener('visibilitychange', () => { if (!document.hidden) look(); });
    again();
  }
}
