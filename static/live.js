// Brings a page to life: one connection, rows that follow the service, a log, times that tick, actions that answer.

import { say, startActions } from './actions.js';
import { startFresh } from './fresh.js';
import { Link } from './link.js';
import { startLog } from './log.js';
import { followRun } from './run.js';
import { applyRows, replacePart, startRows } from './rows.js';
import { setServerNow, showTimes, startTimes } from './times.js';
import { words } from './words.js';

const main = document.querySelector('main');
const data = main?.dataset ?? {};
const title = document.title;
let summary = null;

document.documentElement.classList.add('scripted');
startTimes();
startRows();
startActions();
startFresh(showTimes);
showTab();

/** On a phone the menu is wider than the page: the tab that is open is in sight. */
function showTab() {
  const menu = document.querySelector('.menu');
  const tab = menu?.querySelector('[aria-current]');
  if (!tab) return;
  const [around, inner] = [menu.getBoundingClientRect(), tab.getBoundingClientRect()];
  menu.scrollLeft += inner.left + inner.width / 2 - around.left - around.width / 2;
}

/** What the web node says of a service node that is away; none while it is there. */
let away = document.getElementById('stale')?.innerHTML ?? '';
let shown = away;
let own = '';

/** Marks what the page shows as old while nothing new can come: nobody takes a green pill for the present. */
function mark(old) {
  if (main.classList.contains('old') === old) return;
  main.classList.toggle('old', old);
  for (const note of document.querySelectorAll('.last-heard')) note.remove();
  if (!old) return;
  for (const place of document.querySelectorAll('#link .link-word, .dense caption')) {
    const note = document.createElement('span');
    note.className = 'last-heard';
    note.textContent = ` ${words.lastHeard}`;
    place.append(note);
  }
}

/** Says that the connection is lost; without a text, what the web node has to say. */
function banner(text, link = null) {
  const place = document.getElementById('stale');
  if (!place) return;
  own = text;
  mark(Boolean(text));
  if (!text) {
    if (shown !== away) {
      shown = away;
      place.innerHTML = away;
      showTimes(place);
    }
    place.hidden = !away;
    return;
  }
  if (place.textContent !== text + (link ? ` ${link.text}` : '')) {
    shown = null;
    place.textContent = text;
    if (link) {
      const a = document.createElement('a');
      a.href = link.href;
      a.textContent = link.text;
      place.append(' ', a);
    }
  }
  place.hidden = false;
}

function showSummary() {
  const { state, failing = 0, overdue = 0, running = 0 } = summary;
  const count = state === 'busy' ? running : failing + overdue;
  document.title = `${words.titles[state]?.(count) ?? ''}${title}`;
  const icon = document.getElementById('favicon');
  if (!icon) return;
  const href = icon.href.replace(/favicon(-[a-z]+)?\.svg/, state === 'ok' ? 'favicon.svg' : `favicon-${state}.svg`);
  if (icon.href !== href) icon.href = href;
}

function onMessage(log, message) {
  if (message.now) setServerNow(message.now);
  switch (message.t) {
    case 'hello':
      if (data.build && message.build && data.build.split('+')[0] !== message.build) newer();
      break;
    case 'snapshot':
    case 'patch':
      applyRows(message);
      followRun();
      summary = message.summary ?? summary;
      if (summary) showSummary();
      main.dataset.service = summary?.state ?? '';
      if (message.link) {
        away = message.link.stale ?? '';
        if (!own) banner('');
      }
      break;
    case 'history':
      replacePart('history', message.html);
      break;
    case 'log': case 'gap': case 'restart': case 'bad': case 'following':
      log?.take(message);
      break;
    default:
  }
}

/** The node was updated: a page nobody looks at loads itself again, others offer it. */
function newer() {
  const unsaved = document.querySelector('form :is(input, textarea):not([type=hidden]):focus');
  if (document.hidden && !unsaved) window.location.reload();
  else say(words.newer, '', { href: window.location.href, text: words.reload });
}

function onState(now) {
  const left = () => Math.max(0, Math.ceil((now.at - Date.now()) / 1000));
  clearInterval(onState.timer);
  main.dataset.connection = now.name;
  const transport = document.getElementById('transport');
  if (transport) {
    transport.hidden = now.by !== 'poll' || now.name === 'ended';
    transport.textContent = transport.hidden ? '' : words.polling;
  }
  const lost = () => {
    if (now.code === 'draining') return words.draining;
    if (navigator.onLine === false) return words.offline;
    if (now.text) return words.notFollowed(now.text, left());
    return left() > 0 ? words.waiting(left()) : words.connecting;
  };
  switch (now.name) {
    case 'open':
      onState.lostAt = null;
      banner('');
      showTimes();
      break;
    case 'stale':
      banner(words.stale(Math.round((Date.now() - now.at) / 1000)));
      break;
    case 'ended': {
      const again = now.code === 'signed-out'
        ? { href: data.signIn || window.location.href, text: words.signIn }
        : { href: window.location.href, text: words.reload };
      banner(now.code === 'signed-out' ? words.signedOut : words.refused(now.text), again);
      break;
    }
    default: {
      // a short break is nobody's business
      onState.lostAt ??= Date.now();
      const show = () => { if (Date.now() - onState.lostAt > 1000) banner(lost()); };
      show();
      onState.timer = setInterval(show, 1000);
    }
  }
}

if (main && data.live) {
  const hooks = {
    resubscribe: (topic) => link.resubscribe(topic),
    acknowledge: (cursor) => link.say({ t: 'ack', epoch: cursor.epoch, seq: cursor.seq }),
  };
  const log = startLog(hooks);
  const status = document.getElementById('dispatchers') || document.getElementById('link');
  // a page about one dispatcher says which
  const topics = () => [
    ...(status ? [{ topic: 'status', dispatcher: status.dataset.dispatcher }] : []), ...(log ? [log.topic()] : []),
  ];
  const urls = { live: data.live, poll: data.poll };
  const link = new Link(urls, topics, { message: (message) => onMessage(log, message), state: onState });
  link.start();
}

