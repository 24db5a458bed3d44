// Dispatcher rows, the link pill and other parts of a page: replaced as the server renders them, never under the reader's hands.

import { showTimes } from './times.js';

const waiting = new Map();
let pressed = null;

/** What tells one control of a row from another; a value may change with the row. */
const keyOf = (element) =>
  [element.closest('details')?.className, ...['id', 'name', 'formaction', 'href'].map((name) => element.getAttribute(name))].join('|');

const twin = (element, root) => [...root.querySelectorAll(element.tagName)].find((other) => keyOf(other) === keyOf(element));

/** Whether the row must wait: pressed now, something open, or something being typed. */
function busy(row) {
  if (pressed && row.contains(pressed)) return true;
  if (row.querySelector('details[open]:not(.fold), dialog[open], :popover-open')) return true;
  const focus = document.activeElement;
  return Boolean(focus && row.contains(focus) && focus.matches('input, select, textarea'));
}

/** Puts what was rendered anew in the place of a row or another part. */
function swap(row, fresh) {
  const left = row.querySelector('.chart-large')?.scrollLeft;
  const focus = row.contains(document.activeElement) ? document.activeElement : null;
  // what the reader unfolded stays so, and goes on changing
  if (row.querySelector('.fold[open]')) fresh.querySelector('.fold')?.setAttribute('open', '');
  row.replaceWith(fresh);
  if (left) fresh.querySelector('.chart-large')?.scrollTo({ left });
  if (focus) {
    // what had the focus may be gone (Pause became Resume): then the row keeps the place, and Enter does nothing new
    const next = focus === row ? null : twin(focus, fresh);
    if (!next) fresh.tabIndex = -1;
    (next ?? fresh).focus({ preventScroll: true });
  }
  showTimes(fresh);
}

function parse(html) {
  const template = document.createElement('template');
  template.innerHTML = html;
  return template.content.firstElementChild;
}

function put(body, id, html) {
  const fresh = parse(html);
  if (!fresh || fresh.id !== id) return;
  const row = document.getElementById(id);
  if (row && row.outerHTML === html) return;
  if (row && busy(row)) { waiting.set(id, html); return; }
  waiting.delete(id);
  if (row) { swap(row, fresh); return; }
  document.getElementById('no-dispatchers')?.remove();
  const name = fresh.dataset.name ?? id;
  const after = [...body.children].find((other) => (other.dataset.name ?? other.id) > name);
  body.insertBefore(fresh, after ?? null);
  showTimes(fresh);
}

function drop(id) {
  waiting.delete(id);
  const row = document.getElementById(id);
  if (row && !row.contains(document.activeElement)) row.remove();
  else row?.classList.add('withdrawn');
}

/** Replaces a part that stands in the page already; one under the reader's hands waits. */
export function replacePart(id, html) {
  const part = document.getElementById(id);
  const fresh = part && parse(html);
  if (fresh?.id !== id) return;
  if (busy(part)) { waiting.set(id, html); return; }
  waiting.delete(id);
  swap(part, fresh);
}

function settle() {
  const body = document.getElementById('dispatchers');
  for (const [id, html] of [...waiting]) {
    if (!id.startsWith('d-')) replacePart(id, html);
    else if (body) put(body, id, html);
  }
}

/** Applies a `snapshot` or `patch`. */
export function applyRows(message) {
  const body = document.getElementById('dispatchers');
  if (body) {
    if (message.all) {
      const all = new Set(message.all);
      for (const row of [...body.children]) if (row.id.startsWith('d-') && !all.has(row.id)) drop(row.id);
    }
    for (const id of message.removed ?? []) drop(id);
    for (const { id, html } of message.rows) put(body, id, html);
  }
  const text = document.getElementById('summary');
  if (text && message.summary?.html) text.innerHTML = message.summary.html;
  for (const id of ['link', 'node']) if (message[id]) replacePart(id, message[id].html);
}

/** Rows that had to wait are put in as soon as the reader's hands are off them. */
export function startRows() {
  document.addEventListener('pointerdown', (event) => { pressed = event.target; }, true);
  const release = () => setTimeout(() => { pressed = null; settle(); });
  for (const type of ['pointerup', 'pointercancel']) document.addEventListener(type, release, true);
  document.addEventListener('focusout', () => setTimeout(settle));
  document.addEventListener('toggle', () => setTimeout(settle), true);
}
