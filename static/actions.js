// Actions without leaving the page: the same forms as without scripts, their answer in words.

import { copyText } from './copy.js';
import { words } from './words.js';

const running = new Set();

/** An answer is read by then, and stands in the way; what is neither good nor bad stays. */
const STAYS_MS = { good: 8000, bad: 20000 };
const LOOK_AGAIN_MS = 1000;
let leaving = null;

function leaveIn(ms, place) {
  clearTimeout(leaving);
  if (!ms) return;
  leaving = setTimeout(() => {
    // never out of the reader's hands
    if (place.matches(':hover, :focus-within')) leaveIn(LOOK_AGAIN_MS, place);
    else place.replaceChildren();
  }, ms);
}

/** Says something in the page's polite live region. */
export function say(text, kind = '', link = null) {
  const place = document.getElementById('say');
  if (!place) return;
  leaveIn(STAYS_MS[kind], place);
  place.className = kind;
  place.textContent = text;
  if (link) {
    const a = document.createElement('a');
    a.href = link.href;
    a.textContent = link.text;
    place.append(' ', a);
  }
}

/** Back to a button that was left for the dialog; its row may have been drawn anew meanwhile, or have no such button any more. */
function backTo(button, row) {
  const action = button.getAttribute('formaction');
  const same = button.isConnected ? button : action && document.querySelector(`button[formaction="${CSS.escape(action)}"]`);
  const place = same || document.getElementById(row);
  if (place && place !== same) place.tabIndex = -1;
  place?.focus({ preventScroll: true });
}

function ask(button) {
  const row = button.closest('[id]')?.id;
  return new Promise((decided) => {
    const dialog = document.createElement('dialog');
    dialog.className = 'confirm';
    const text = document.createElement('p');
    text.id = 'confirm-text';
    text.textContent = button.dataset.confirm;
    dialog.setAttribute('aria-labelledby', text.id);
    const choice = (words_, value, className) => {
      const made = document.createElement('button');
      made.type = 'button';
      made.className = className;
      made.textContent = words_;
      made.onclick = () => dialog.close(value);
      return made;
    };
    const no = choice(button.dataset.no || words.no, 'no', 'plain');
    dialog.append(text, choice(button.dataset.yes || words.yes, 'yes', 'danger'), ' ', no);
    dialog.addEventListener('close', () => {
      dialog.remove();
      backTo(button, row);
      decided(dialog.returnValue === 'yes');
    });
    document.body.append(dialog);
    dialog.showModal();
    no.focus();
  });
}

async function send(form, button) {
  const url = button?.getAttribute('formaction') ? button.formAction : form.action;
  const body = new URLSearchParams(new FormData(form));
  if (button?.name) body.append(button.name, button.value);
  for (const part of Object.entries(button?.dataset ?? {})) if (part[0] === 'after') body.set('after', part[1]);
  const key = `${url}?${body}`;
  if (running.has(key)) return;
  running.add(key);
  button?.setAttribute('aria-busy', 'true');
  say(words.sending);
  try {
    const answer = await fetch(url, {
      method: 'POST', body, headers: { Accept: 'application/json' }, redirect: 'manual', signal: AbortSignal.timeout(30000),
    });
    if (answer.status === 401 || answer.type === 'opaqueredirect') {
      const href = document.querySelector('main')?.dataset.signIn || window.location.href;
      say(words.signedOut, 'bad', { href, text: words.signIn });
      return;
    }
    const said = await answer.json().catch(() => ({}));
    say(said.text ?? said.error?.message ?? words.failed(answer.status), answer.ok ? 'good' : 'bad');
  } catch {
    say(words.noAnswer, 'bad');
  } finally {
    running.delete(key);
    button?.removeAttribute('aria-busy');
  }
}

/** Takes over `form#act` and every `form[data-act]`. One listener for all: a swapped row can't lose it. */
export function startActions() {
  const said = document.getElementById('say');
  if (said?.textContent) leaveIn(STAYS_MS[said.className], said);
  document.addEventListener('submit', async (event) => {
    const form = event.target;
    if (!(form.id === 'act' || form.hasAttribute('data-act'))) return;
    event.preventDefault();
    const button = event.submitter;
    if (button?.dataset.confirm && !(await ask(button))) return;
    send(form, button);
  });
  document.addEventListener('change', async (event) => {
    const into = document.getElementById(event.target.dataset?.into);
    if (into && event.target.files?.[0]) into.value = await event.target.files[0].text();
  });
  document.addEventListener('click', async (event) => {
    const link = event.target.closest?.('[data-copy-link]')?.dataset.copyLink;
    const from = document.getElementById(event.target.closest?.('[data-copy]')?.dataset.copy);
    if (!from && !link) return;
    const done = await copyText(link ? new URL(link, window.location.href).href : from.textContent.trim());
    say(done ? words.copiedIt : words.notCopied, done ? 'good' : 'bad');
  });
}
