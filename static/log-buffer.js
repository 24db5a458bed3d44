// What a tab holds of the log: bounded in rows and bytes, told exactly once, losses counted.

/** A line costs so many bytes besides its text. */
const ROW_BYTES = 160;

export const LEVELS = 5;

const zero = () => [0, 0, 0, 0, 0];
const add = (sum, counts) => counts.forEach((count, level) => { sum[level] += count; });
const total = (counts) => counts.reduce((sum, count) => sum + count, 0);

/** Whether two rows that stand one after the other are one gap. */
const joins = (before, row) => before?.kind === 'gap' && row.kind === 'gap' && before.epoch === row.epoch;

/** Rows numbered without end, the oldest of which make room for new ones. */
export class Rows {
  constructor(mostRows = 20000, mostBytes = 8 << 20) {
    this.mostRows = mostRows;
    this.mostBytes = mostBytes;
    this.clear();
  }

  clear() {
    this.items = [];
    this.head = 0;
    /** The number of the oldest row held. */
    this.first = this.end ?? 0;
    this.end = this.first;
    this.bytes = 0;
    /** How many of the rows are lines. */
    this.lines = 0;
    /** Lines that made room, by level. */
    this.dropped = zero();
  }

  get size() { return this.end - this.first; }

  /** Adds a row. Gaps with nothing between them become one: the number of the row that grew, or -1 if there is a new one. */
  push(row) {
    const last = this.get(this.end - 1);
    if (joins(last, row)) {
      // a new one, so that whoever holds the former keeps it as it was
      const whole = { ...last, to: row.to, by_level: [...last.by_level], unknown: last.unknown + row.unknown };
      add(whole.by_level, row.by_level);
      this.items[this.items.length - 1] = whole;
      return this.end - 1;
    }
    this.items.push(row);
    this.end += 1;
    if (row.kind === 'line') this.lines += 1;
    this.bytes += weight(row);
    while (this.size > 1 && (this.size > this.mostRows || this.bytes > this.mostBytes)) {
      const gone = this.items[this.head];
      this.items[this.head] = undefined;
      this.head += 1;
      this.first += 1;
      this.bytes -= weight(gone);
      if (gone.kind === 'line') {
        this.lines -= 1;
        this.dropped[gone.level] += 1;
      }
      else if (gone.by_level) add(this.dropped, gone.by_level);
    }
    if (this.head > 4096 && this.head * 2 > this.items.length) {
      this.items = this.items.slice(this.head);
      this.head = 0;
    }
    return -1;
  }

  /** The row of this number; undefined if it is not held. */
  get(number) {
    return number < this.first ? undefined : this.items[this.head + number - this.first];
  }

  /** The number of the line `epoch:seq`, or of the gap that it is in; -1 if neither is held. */
  find(epoch, seq) {
    for (let number = this.end - 1; number >= this.first; number -= 1) {
      const row = this.get(number);
      if (row.epoch !== epoch) continue;
      if (row.kind === 'line' && row.seq === seq) return number;
      if (row.kind === 'gap' && row.from <= seq && seq <= row.to) return number;
    }
    return -1;
  }
}

const weight = (row) => ROW_BYTES + 2 * ((row.text?.length ?? 0) + (row.source?.length ?? 0));

/** A place is acknowledged so often, in ms, or after so many lines or characters: well before the server would wait for it. */
export const ACKNOWLEDGE_EVERY = 250;
const ACKNOWLEDGE_LINES = 500;
const ACKNOWLEDGE_CHARACTERS = 32 << 10;

/** Takes messages of the server, drops what was told before, notices what nobody told, and gives rows. */
export class Intake {
  constructor() { this.restart(); }

  /** Begins anew: nothing is known. Lines below `level` are not wanted. */
  restart(cursor = null, level = 0) {
    this.cursor = cursor;
    /** Where the life before was left, until the next one tells anything: it is told of again to whoever goes on from there. */
    this.left = null;
    /** Whose lines the last ones were. */
    this.node = null;
    /** The place that was acknowledged last. */
    this.acked = null;
    this.ackedAt = -Infinity;
    /** What came since. */
    this.unacked = { lines: 0, characters: 0 };
    this.level = level;
    this.hidden = zero();
    this.lost = 0;
    this.repeated = 0;
  }

  /** The place to go on from, as the server wants it; null if nothing is known. */
  get since() {
    const at = this.left ?? this.cursor;
    return at ? `${at.epoch}:${at.seq}` : null;
  }

  /** Whether something came that was not acknowledged. */
  get owes() {
    const { cursor, acked } = this;
    return cursor !== null && (acked?.epoch !== cursor.epoch || acked.seq !== cursor.seq);
  }

  /** The place to acknowledge now; null if there is none, or it is not time yet. */
  acknowledge(now) {
    const { lines, characters } = this.unacked;
    const soon = now - this.ackedAt < ACKNOWLEDGE_EVERY && lines < ACKNOWLEDGE_LINES && characters < ACKNOWLEDGE_CHARACTERS;
    if (!this.owes || soon) return null;
    this.acked = this.cursor;
    this.ackedAt = now;
    this.unacked = { lines: 0, characters: 0 };
    return this.cursor;
  }

  /** The rows of one message, in order. */
  take(message) {
    if (message.t === 'restart') return this.takeRestart(message);
    if (message.t === 'gap') return this.takeGap(message);
    if (message.t === 'log') return this.takeLines(message);
    return [];
  }

  takeRestart(message) {
    if (this.cursor?.epoch === message.epoch) return [];
    this.left ??= this.cursor;
    this.cursor = { epoch: message.epoch, seq: 0 };
    this.node = message.node ?? null;
    const { epoch, node, before, primary, from, to, at } = message;
    return [{ kind: 'restart', epoch, node, before, primary, fromVersion: from, toVersion: to, ms: at }];
  }

  takeGap(message) {
    const rows = this.enter(message);
    this.left = null;
    let { from, by_level: byLevel } = message;
    if (this.cursor && this.cursor.seq >= from) {
      if (this.cursor.seq >= message.to) return rows;
      from = this.cursor.seq + 1;
      byLevel = zero();
    }
    this.cursor = { epoch: message.epoch, seq: message.to };
    const unknown = Math.max(0, message.to - from + 1 - total(byLevel));
    // what is known to be below the level would not have been shown: it is hidden, not missed
    const missed = byLevel.map((count, level) => (level < this.level ? 0 : count));
    add(this.hidden, byLevel.map((count, level) => count - missed[level]));
    const count = unknown + total(missed);
    if (!count) return rows;
    this.lost += count;
    rows.push({ kind: 'gap', epoch: message.epoch, from, to: message.to, by_level: missed, unknown });
    return rows;
  }

  takeLines(message) {
    const rows = this.enter(message);
    this.left = null;
    this.node = message.node ?? this.node;
    this.unacked.lines += message.rows.length;
    for (const [seq, ms, level, source, execution, stream, text] of message.rows) {
      this.unacked.characters += text.length;
      if (this.cursor?.epoch === message.epoch && seq <= this.cursor.seq) {
        this.repeated += 1;
        continue;
      }
      rows.push({ kind: 'line', epoch: message.epoch, seq, ms, level, source, execution, stream, text });
      this.cursor = { epoch: message.epoch, seq };
    }
    if (!this.cursor || this.cursor.seq < message.next) this.cursor = { epoch: message.epoch, seq: message.next };
    if (message.hidden) add(this.hidden, message.hidden);
    return rows;
  }

  /** A message of another life without a word in between: the separator is made here. */
  enter({ epoch, node }) {
    if (!this.cursor || this.cursor.epoch === epoch) return [];
    this.cursor = { epoch, seq: 0 };
    return [{ kind: 'restart', epoch, node, before: this.node, primary: false, fromVersion: null, toVersion: null, ms: null }];
  }
}

/** What came while the reader paused: bounded; what does not fit is one row that says so. */
export class Waiting {
  constructor(mostRows = 10000, mostBytes = 4 << 20) {
    this.rows = new Rows(mostRows, mostBytes);
    this.lines = 0;
    this.errors = 0;
  }

  push(row) {
    this.rows.push(row);
    if (row.kind === 'line') {
      this.lines += 1;
      if (row.level === LEVELS - 1) this.errors += 1;
    }
  }

  /** Everything, oldest first, and nothing waits any more. */
  drain() {
    const out = [];
    const count = total(this.rows.dropped);
    if (count) out.push({ kind: 'skipped', count, by_level: this.rows.dropped });
    for (let number = this.rows.first; number < this.rows.end; number += 1) out.push(this.rows.get(number));
    this.rows.clear();
    this.lines = 0;
    this.errors = 0;
    return out;
  }
}
