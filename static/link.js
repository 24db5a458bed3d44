// The way to the web node: a WebSocket, or one long poll after the other where none passes. Connects again by itself.

const STALE_MS = 5000;
const DEAD_MS = 12000;
const POLL_STALE_MS = 26000;
const PING_MS = 15000;
const FIRST_MS = 150;
const SOCKET_AGAIN_MS = 5 * 60000;
const BAD_AGAIN_MS = 2000;
const LONGEST_REASON = 300;

/** How long to wait before attempt `n` (0 is the first retry): fast once, then half a second doubling to 15 s, jittered. */
export function delay(n, random = Math.random()) {
  if (n === 0) return FIRST_MS * (1 + random);
  return Math.min(15000, 500 * 2 ** (n - 1)) * (0.5 + random / 2);
}

/** What a refusal says, as plain text or `{"text": …}`: the page of a proxy in between is not the web node's word. */
async function reasonOf(answer) {
  const type = answer.headers.get('content-type') ?? '';
  let text = '';
  if (type.startsWith('text/plain')) text = await answer.text();
  else if (type.startsWith('application/json')) text = (await answer.json()).text;
  return String(text ?? '').trim().slice(0, LONGEST_REASON);
}

/** How long a refusal asks to be left alone, in ms; at most a minute, and not all at the same moment. */
function restOf(answer, random = Math.random()) {
  const seconds = Number(answer.headers.get('retry-after')) || 0;
  return Math.min(60, Math.max(0, seconds)) * 1000 * (1 + random / 4);
}

/**
 * `urls`: `live` and `poll`. `topics()`: what to follow now: `[{topic: 'status'}, {topic: 'log', since, level, …}]`.
 * `on.message(message)`, `on.state(state)`: `{name: 'open'|'connecting'|'waiting'|'stale'|'ended', by, at, code, text}`.
 */
export class Link {
  constructor(urls, topics, on, env = globalThis) {
    Object.assign(this, { urls, topics, on, env });
    this.tries = 0;
    this.refused = 0;
    this.pollUntil = 0;
    this.version = 0;
    this.heardAt = 0;
    /** Why the web node refused to be followed, in its words. */
    this.reason = '';
    this.open = false;
    this.ended = false;
  }

  start() {
    const { env } = this;
    env.addEventListener('online', () => this.hurry());
    env.document.addEventListener('visibilitychange', () => {
      if (!env.document.hidden) { this.check(); this.hurry(); }
    });
    env.addEventListener('pagehide', () => this.close());
    env.addEventListener('pageshow', (event) => { if (event.persisted) this.connect(); });
    env.setInterval(() => this.check(), 1000);
    this.connect();
  }

  connect() {
    if (this.ended) return;
    this.env.clearTimeout(this.timer);
    this.timer = null;
    this.close();
    this.state('connecting', { text: this.reason });
    if (!this.env.WebSocket) this.refused = 2;
    if (this.refused >= 2 || Date.now() < this.pollUntil) this.poll();
    else this.dial();
  }

  dial() {
    const url = new URL(this.urls.live, this.env.location.href);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    let socket;
    try { socket = new this.env.WebSocket(url); } catch { this.refused = 2; this.retry(); return; }
    this.socket = socket;
    let greeted = false;
    const slow = this.env.setTimeout(() => socket.close(), 10000);
    socket.onopen = () => socket.send('{"t":"hello","v":1}');
    socket.onmessage = (event) => {
      if (socket !== this.socket) return;
      const message = JSON.parse(event.data);
      if (message.t === 'hello' && !greeted) {
        greeted = true;
        this.env.clearTimeout(slow);
        this.refused = 0;
        this.up('socket');
        for (const topic of this.topics()) this.say({ t: 'sub', ...topic });
      }
      this.heard(message);
    };
    socket.onclose = () => {
      this.env.clearTimeout(slow);
      if (socket !== this.socket) return;
      this.socket = null;
      if (!greeted) this.refused += 1;
      this.retry();
    };
  }

  async poll() {
    const round = Symbol('round');
    this.round = round;
    let first = true;
    while (this.round === round && !this.ended) {
      const [status, log] = ['status', 'log'].map((name) => this.topics().find((topic) => topic.topic === name));
      const query = new URLSearchParams({ version: String(first ? 0 : this.version) });
      if (status?.dispatcher) {
        query.set('dispatcher', status.dispatcher);
        if (!first && this.mark) query.set('history', this.mark);
      }
      if (log) {
        query.set('log', '1');
        for (const key of ['since', 'level', 'q', 'execution']) if (log[key]) query.set(key, log[key]);
        if (log.sources?.length) query.set('source', log.sources.join(','));
        if (log.inverse) query.set('inverse', '1');
      }
      let rest = 0;
      this.abort = new AbortController();
      const slow = this.env.setTimeout(() => this.abort.abort(), 30000);
      try {
        const answer = await this.env.fetch(`${this.urls.poll}?${query}`, {
          signal: this.abort.signal, headers: { Accept: 'application/json' }, cache: 'no-store', redirect: 'manual',
        });
        if (this.round !== round) return;
        if (answer.status === 401 || answer.type === 'opaqueredirect') { this.end('signed-out', ''); return; }
        if (answer.status === 400) {
          // `field: what is wrong`
          const reason = await reasonOf(answer);
          const [, field, text] = /^([a-z]+): (.+)$/s.exec(reason) ?? [null, null, reason];
          this.on.message({ t: 'bad', id: log?.id, field, text });
          await new Promise((done) => { this.env.setTimeout(done, BAD_AGAIN_MS); });
          continue;
        }
        if (!answer.ok) {
          this.reason = await reasonOf(answer);
          if (this.round !== round) return;
          if (answer.status === 403) { this.end('refused', this.reason || String(answer.status)); return; }
          rest = restOf(answer);
          throw new Error(String(answer.status));
        }
        const messages = await answer.json();
        if (this.round !== round) return;
        if (first) {
          this.up('poll');
          if (log?.id) this.on.message({ t: 'following', topic: 'log', id: log.id });
        }
        first = false;
        for (const message of messages) this.heard(message);
        if (Date.now() >= this.pollUntil && this.refused < 2) { this.connect(); return; }
        if (this.refused >= 2) { this.refused = 0; this.pollUntil = Date.now() + SOCKET_AGAIN_MS; }
      } catch {
        if (this.round !== round) return;
        this.round = null;
        this.refused = 0;
        this.pollUntil = 0;
        this.retry(rest);
      } finally {
        this.env.clearTimeout(slow);
      }
    }
  }

  heard(message) {
    this.heardAt = Date.now();
    if (this.stale) { this.stale = false; this.state('open'); }
    if (message.version) this.version = message.version;
    if (message.mark) this.mark = message.mark;
    if (message.t === 'bye') {
      this.bye = message.code;
      if (['signed-out', 'version', 'bad-message', 'too-long'].includes(message.code)) this.end(message.code, message.text);
      return;
    }
    this.on.message(message);
  }

  up(by) {
    this.by = by;
    this.tries = 0;
    this.open = true;
    this.stale = false;
    this.bye = null;
    this.reason = '';
    this.heardAt = Date.now();
    this.pingAt = Date.now() + PING_MS;
    this.state('open');
  }

  /** Connects again after a while, `rest` ms at least. */
  retry(rest = 0) {
    if (this.ended || this.timer) return;
    this.open = false;
    const wait = Math.max(rest, delay(this.tries));
    this.tries += 1;
    this.timer = this.env.setTimeout(() => this.connect(), wait);
    this.state('waiting', { at: Date.now() + wait, code: this.bye, text: this.reason });
  }

  /** Tries now if it waits; after a long sleep the delays begin anew. */
  hurry() {
    if (this.timer) { this.tries = 0; this.connect(); }
  }

  check() {
    if (!this.open) return;
    const silent = Date.now() - this.heardAt;
    if (this.by === 'socket' && Date.now() >= this.pingAt) {
      this.say({ t: 'ping' });
      this.pingAt = Date.now() + PING_MS;
    }
    if (silent > (this.by === 'poll' ? POLL_STALE_MS : STALE_MS)) {
      this.stale = true;
      this.state('stale', { at: this.heardAt });
    }
    if (this.by === 'socket' && silent > DEAD_MS) { this.tries = 0; this.close(); this.retry(); }
  }

  say(message) {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(message));
  }

  /** Follows a topic in another way from now on. */
  resubscribe(topic) {
    if (this.by === 'poll' && this.open) this.connect();
    else this.say({ t: 'sub', ...topic });
  }

  end(code, text) {
    this.ended = true;
    this.open = false;
    this.close();
    this.state('ended', { code, text });
  }

  close() {
    this.open = false;
    this.round = null;
    this.abort?.abort();
    const { socket } = this;
    this.socket = null;
    socket?.close();
  }

  state(name, more = {}) { this.on.state({ name, by: this.by, ...more }); }
}
