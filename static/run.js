// The page of a run that goes on: loaded again when the run has begun or is over, so that its outcome, duration and output are true.

const SOON_MS = 200;
const LONGEST_MS = 15000;
const body = document.querySelector('#dispatchers[data-run]');
let wait = SOON_MS;
let due = 0;
let timer = null;
let asking = false;

function soon(ms) {
  const at = Date.now() + ms;
  if (timer && due <= at) return;
  clearTimeout(timer);
  due = at;
  timer = setTimeout(look, ms);
}

/** Whether the row shows the run going on, as the page says: then there is nothing to ask. */
const asBefore = () => body.dataset.phase === 'running' && body.querySelector(`.run [data-execution="${body.dataset.run}"]`);

async function look() {
  timer = null;
  if (asking || asBefore()) return;
  asking = true;
  try {
    // nothing is taken out of the reader's hands
    if (!document.querySelector('dialog[open]')) {
      const answer = await fetch(window.location.pathname, { headers: { Accept: 'text/html' }, redirect: 'manual', signal: AbortSignal.timeout(10000) });
      // whoever is signed out is told so by the connection
      if (answer.type === 'opaqueredirect') return;
      const phase = answer.ok ? /data-phase="(\w+)"/.exec(await answer.text())?.[1] : body.dataset.phase;
      if (phase !== body.dataset.phase) {
        // what came of an earlier action is not said again
        window.history.replaceState(null, '', window.location.pathname);
        window.location.reload();
        return;
      }
    }
  } catch {
    // asked again below
  } finally {
    asking = false;
  }
  soon(wait);
  wait = Math.min(2 * wait, LONGEST_MS);
}

/** Called whenever the row may have changed. */
export function followRun() {
  if (!body) return;
  wait = SOON_MS;
  soon(SOON_MS);
}

// a row that was under the reader's hands changes when they are off it
if (body) for (const type of ['focusout', 'pointerup', 'toggle']) document.addEventListener(type, followRun, true);
