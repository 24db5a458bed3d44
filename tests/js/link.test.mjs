import assert from 'node:assert/strict';
import test from 'node:test';

import { delay, Link } from '../../static/link.js';
import { relative, span, untilDue } from '../../static/times.js';

/** A browser as far as a link needs one. Timers run by hand. */
function browser(answers = []) {
  const timers = new Map();
  let last = 0;
  const env = {
    sockets: [],
    asked: [],
    location: { href: 'http://here/status' },
    document: { hidden: false, addEventListener() {} },
    addEventListener() {},
    setInterval() {},
    setTimeout(act) { last += 1; timers.set(last, act); return last; },
    clearTimeout(id) { timers.delete(id); },
    runTimers() { for (const [id, act] of [...timers]) { timers.delete(id); act(); } },
    WebSocket: class {
      constructor(url) { this.url = String(url); this.sent = []; this.readyState = 0; env.sockets.push(this); }
      send(text) { this.sent.push(JSON.parse(text)); }
      close() { this.readyState = 3; }
      accept() { this.readyState = 1; this.onopen(); this.tell({ t: 'hello', v: 1 }); }
      tell(message) { this.onmessage({ data: JSON.stringify(message) }); }
      fail() { this.readyState = 3; this.onclose({}); }
    },
    async fetch(url) {
      env.asked.push(url);
      const answer = answers.shift();
      if (!answer) return new Promise(() => {});
      if (answer === 'down') throw new Error('down');
      const headers = new Headers({ 'content-type': 'text/plain; charset=utf-8', ...answer.headers });
      return { ok: answer.status === 200, status: answer.status, headers, json: async () => answer.messages, text: async () => answer.text ?? '' };
    },
  };
  return env;
}

function linkOn(env, since = { value: null }, dispatcher = undefined) {
  const states = [];
  const messages = [];
  const topics = () => [{ topic: 'status', dispatcher }, { topic: 'log', since: since.value, level: 'info', sources: [], q: '' }];
  const on = { message: (message) => messages.push(message), state: (state) => states.push(state) };
  const link = new Link({ live: '/status/live', poll: '/status/poll' }, topics, on, env);
  link.start();
  return { link, states, messages };
}

const settle = async () => { for (let n = 0; n < 20; n += 1) await Promise.resolve(); };

test('the first retry is fast, later ones double up to 15 s with jitter', () => {
  assert.ok(delay(0, 0) >= 100 && delay(0, 1) <= 500);
  assert.deepEqual([delay(1, 1), delay(2, 1), delay(3, 1)], [500, 1000, 2000]);
  assert.deepEqual([delay(1, 0), delay(20, 0), delay(20, 1)], [250, 7500, 15000]);
});

test('after a break it resumes where the log stands now', () => {
  const env = browser();
  const since = { value: null };
  const { states } = linkOn(env, since);
  env.sockets[0].accept();
  assert.equal(env.sockets[0].url, 'ws://here/status/live');
  assert.deepEqual(env.sockets[0].sent.map(({ t }) => t), ['hello', 'sub', 'sub']);
  since.value = 'e:42';
  env.sockets[0].fail();
  assert.equal(states.at(-1).name, 'waiting');
  env.runTimers();
  env.sockets[1].accept();
  assert.equal(env.sockets[1].sent[2].since, 'e:42');
  assert.equal(states.at(-1).name, 'open');
});

test('where no socket passes twice it polls, and says so', async () => {
  const env = browser([{ status: 200, messages: [{ t: 'hello' }, { t: 'snapshot', version: 7, rows: [] }] }]);
  const { states, messages } = linkOn(env, { value: 'e:1' });
  env.sockets[0].fail();
  env.runTimers();
  env.sockets[1].fail();
  env.runTimers();
  await settle();
  assert.deepEqual([env.sockets.length, states.at(-1).name, states.at(-1).by], [2, 'open', 'poll']);
  assert.equal(messages.at(-1).version, 7);
  assert.match(env.asked[0], /version=0&log=1&since=e%3A1&level=info/);
  assert.match(env.asked[1], /version=7/);
});

test('a page about one dispatcher says which, and a poll which history it has', async () => {
  const history = { t: 'history', dispatcher: 'disk-space', mark: 'abc', html: '' };
  const env = browser([{ status: 200, messages: [{ t: 'hello' }, { t: 'snapshot', version: 7, rows: [] }, history] }]);
  linkOn(env, { value: null }, 'disk-space');
  env.sockets[0].accept();
  assert.deepEqual(env.sockets[0].sent[1], { t: 'sub', topic: 'status', dispatcher: 'disk-space' });
  env.sockets[0].fail();
  for (let n = 1; n <= 2; n += 1) {
    env.runTimers();
    env.sockets[n].fail();
  }
  env.runTimers();
  await settle();
  assert.match(env.asked[0], /version=0&dispatcher=disk-space&log=1/);
  assert.match(env.asked[1], /version=7&dispatcher=disk-space&history=abc/);
});

test('a node that is away is no reason to poll for ever', async () => {
  const env = browser(['down']);
  linkOn(env);
  env.sockets[0].fail();
  env.runTimers();
  env.sockets[1].fail();
  env.runTimers();
  await settle();
  env.runTimers();
  await settle();
  assert.equal(env.sockets.length, 3, 'the socket is tried again');
});

test('who is signed out is led to sign in, and nothing is tried again', async () => {
  const env = browser();
  const { link, states } = linkOn(env);
  env.sockets[0].accept();
  env.sockets[0].tell({ t: 'bye', code: 'signed-out', text: 'x' });
  env.sockets[0].fail?.();
  env.runTimers();
  assert.deepEqual([states.at(-1).name, states.at(-1).code, env.sockets.length], ['ended', 'signed-out', 1]);
  link.hurry();
  assert.equal(env.sockets.length, 1);
});

test('a poll that is refused for want of a session ends too', async () => {
  const env = browser([{ status: 401 }]);
  const { states } = linkOn(env);
  env.sockets[0].fail();
  env.runTimers();
  env.sockets[1].fail();
  env.runTimers();
  await settle();
  assert.deepEqual([states.at(-1).name, states.at(-1).code], ['ended', 'signed-out']);
});

/** A link whose sockets don't pass, so that it polls. */
async function polling(...answers) {
  const env = browser(answers);
  const all = linkOn(env);
  env.sockets[0].fail();
  env.runTimers();
  env.sockets[1].fail();
  env.runTimers();
  await settle();
  return { ...all, env };
}

test('whoever may not look is told so, and nothing is tried again', async () => {
  const role = { status: 403, messages: { ok: false, text: 'no role' }, headers: { 'content-type': 'application/json' } };
  assert.equal((await polling(role)).states.at(-1).text, 'no role');
  const { env, states } = await polling({ status: 403, text: 'this user may not look\n' });
  assert.deepEqual([states.at(-1).name, states.at(-1).code, states.at(-1).text], ['ended', 'refused', 'this user may not look']);
  env.runTimers();
  assert.equal(env.sockets.length, 2);
});

for (const [status, text] of [[429, 'too many open tabs of this user; close some'], [503, 'too many people watch this node now; try again']]) {
  test(`a ${status} is shown with its reason, and tried again when it says`, async () => {
    const { env, states } = await polling({ status, text, headers: { 'retry-after': '10' } });
    const { name, at, text: shown } = states.at(-1);
    assert.deepEqual([name, shown], ['waiting', text]);
    const left = at - Date.now();
    assert.ok(left > 9000 && left < 13_000, `${left} ms`);
    env.runTimers();
    assert.deepEqual([env.sockets.length, states.at(-1).name, states.at(-1).text], [3, 'connecting', text]);
    env.sockets[2].accept();
    env.sockets[2].fail();
    assert.deepEqual([states.at(-1).name, states.at(-1).text], ['waiting', ''], 'that is over');
  });
}

test('the page of a proxy is no reason', async () => {
  const { states } = await polling({ status: 503, text: '<html>Bad', headers: { 'content-type': 'text/html' } });
  assert.deepEqual([states.at(-1).name, states.at(-1).text], ['waiting', '']);
});

test('a poll that is refused for a wrong value says of which field it speaks', async () => {
  const { messages } = await polling({ status: 400, text: 'source: at most 50 sources\n' });
  assert.deepEqual(messages.at(-1), { t: 'bad', id: undefined, field: 'source', text: 'at most 50 sources' });
  const other = await polling({ status: 400, text: 'the address can\'t be read: x' });
  assert.deepEqual(other.messages.at(-1), { t: 'bad', id: undefined, field: null, text: 'the address can\'t be read: x' });
});

test('silence is told, and broken off', () => {
  const env = browser();
  const { link, states } = linkOn(env);
  env.sockets[0].accept();
  link.heardAt -= 6000;
  link.check();
  assert.equal(states.at(-1).name, 'stale');
  env.sockets[0].tell({ t: 'ping', now: 1 });
  assert.equal(states.at(-1).name, 'open');
  link.heardAt -= 13000;
  link.check();
  assert.equal(states.at(-1).name, 'waiting');
});

test('times read well', () => {
  assert.deepEqual([0, 59_000, 61_000, 605_000, 3_600_000, 90_000_000].map(span), ['0 s', '59 s', '1 min 1 s', '10 min', '1 h', '1 d 1 h']);
  assert.deepEqual([relative(0, 500), relative(0, 3000), relative(240_000, 0)], ['just now', '3 s ago', 'in 4 min']);
});

test('what is to come is never long ago', () => {
  assert.deepEqual([untilDue(240_000, 0), untilDue(900, 0), untilDue(0, 0), untilDue(0, 15_000)], ['in 4 min', 'now', 'now', 'now']);
  assert.equal(untilDue(0, 15_000, 'in a moment'), 'in a moment');
});
