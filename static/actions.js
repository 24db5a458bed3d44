// Actions without leaving the page: the same forms as without scripts, their answer in words.

import { words } from './words.js';

const running = new Set();

/** Says something in the page's polite live region. */
export function say(text, kind = '', link = null) {
  const place = document.getElementById('say');
  if (!place) return;
  place.className = kind;
  place.textContent = text;
  if (link) {
    const a = document.createElement('a');
    a.href = link.href;
    a.textContent = link.text;
    place.append(' ', a);
  }
}

function ask(button) {
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
      button.isConnected && button.focus();
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
  document.addEventListener('submit', async (event) => {
    const form = event.target;
    if (!(form.id === 'act' || form.hasAttribute('data-act'))) return;
    event.preventDefault();
    const button = event.submitter;
    if (button?.dataset.confirm && !(await ask(button))) return;
    send(form, button);
  });
}
