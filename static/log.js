// The log viewer: what the tab holds, the few rows that are painted, and what the reader does with them.

import { say } from './actions.js';
import { copyText } from './copy.js';
import { Asked } from './log-asked.js';
import { ACKNOWLEDGE_EVERY, Intake, Rows, Waiting } from './log-buffer.js';
import { fromMarkup, hits, marked, pattern, pieces, plain } from './log-text.js';
import { clock, day, full, relative, serverNow } from './times.js';
import { words } from './words.js';

const OVERSCAN = 30;
const NEAR_END = 12;

/** So many rows are shown before and after a line that is linked to. */
const AROUND = 50;

const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

/** Takes over `section#log`; null if there is none. `hooks`: `resubscribe(topic)`, `acknowledge(cursor)`. */
export function startLog(hooks) {
  const section = document.getElementById('log');
  const list = document.getElementById('log-lines');
  return section && list ? new LogView(section, list, hooks) : null;
}

class LogView {
  constructor(section, list, hooks) {
    Object.assign(this, { section, list, hooks });
    this.rows = new Rows();
    this.waiting = new Waiting();
    this.intake = new Intake();
    this.follows = true;
    this.current = -1;
    this.here = null;
    this.wanted = null;
    this.picked = null;
    this.sources = new Set();
    this.lastAt = 0;
    this.announced = { lines: 0, errors: 0 };
    this.asked = new Asked();
    this.control = (id) => document.getElementById(`log-${id}`);
    this.readHash();
    this.adopt();
    this.buildTools();
    this.listen();
    this.repaint();
    setInterval(() => { if (!document.hidden) this.showFooter(); }, 1000);
    setInterval(() => this.announce(), 5000);
  }

  // ---- what is followed ------------------------------------------------------------------------------------------

  filter() {
    const value = (id) => this.control(id)?.value?.trim() ?? '';
    return {
      level: value('level') || null,
      sources: value('source') ? value('source').split(',').map((name) => name.trim()).filter(Boolean) : [],
      q: value('q') || '',
      inverse: Boolean(this.control('inverse')?.checked),
      execution: Number(value('execution')) || null,
    };
  }

  /** What to follow on a new connection: what was asked for last, or else what is in force, from where this tab stands. */
  topic() {
    const ask = this.asked.renew();
    return ask ? this.topicOf(ask) : { topic: 'log', since: this.intake.since, ...this.inForce };
  }

  topicOf({ id, cursor, filter }) {
    return { topic: 'log', id, since: cursor ? `${cursor.epoch}:${cursor.seq}` : null, ...filter };
  }

  /** The least level that is wanted, as a number. */
  level() { return Math.max(0, words.levels.indexOf(this.inForce.level)); }

  /** Whether more is filtered than the level, so that nobody can tell whether a lost line would have passed. */
  narrow() {
    const f = this.inForce;
    return Boolean(f.q || f.sources.length || f.execution);
  }

  filtered() {
    const f = this.inForce;
    return Boolean(f.q || f.sources.length || f.execution || (f.level && f.level !== 'trace'));
  }

  refilter(patch = {}) {
    for (const [id, value] of Object.entries(patch)) {
      const control = this.control(id);
      if (!control) continue;
      if (control.tagName === 'SELECT' && value && ![...control.options].some((option) => option.value === value)) {
        control.add(new Option(value, value));
      }
      control.value = value;
    }
    const filter = this.filter();
    this.showUrl();
    if (JSON.stringify(filter) === JSON.stringify(this.asked.newest?.filter ?? this.inForce)) return;
    this.ask(null, filter);
  }

  /** Asks for other lines: until the server agrees, those shown stay. */
  ask(cursor, filter = this.inForce) {
    this.hooks.resubscribe(this.topicOf(this.asked.add({ cursor, filter })));
  }

  /** The server agrees: what is shown is forgotten. */
  begin({ cursor, filter }) {
    this.inForce = filter;
    this.say('');
    this.rows.clear();
    this.waiting.drain();
    this.intake.restart(cursor, this.level());
    this.lastDay = null;
    this.picked = null;
    this.current = -1;
    this.clearFinds();
    this.setFollow(cursor === null);
    this.schedule();
  }

  showUrl() {
    const f = this.filter();
    const url = new URL(window.location.href);
    const set = (name, value) => { if (value) url.searchParams.set(name, value); else url.searchParams.delete(name); };
    set('level', f.level);
    set('source', f.sources.join(','));
    set('q', f.q);
    set('inverse', f.inverse ? '1' : '');
    set('execution', f.execution);
    window.history.replaceState(null, '', url);
    const download = this.control('download');
    if (download) {
      const target = new URL(this.section.dataset.url || download.getAttribute('href'), window.location.href);
      target.search = url.search;
      download.href = target.href;
    }
    this.showChip(f.execution);
  }

  showChip(execution) {
    const chips = this.control('chips');
    if (!chips) return;
    chips.replaceChildren();
    if (!execution) return;
    const chip = make('button', 'chip', `${words.run(execution)} ×`);
    chip.type = 'button';
    chip.title = words.removeRun;
    chip.onclick = () => this.refilter({ execution: '' });
    chips.append(chip);
  }

  // ---- what comes ------------------------------------------------------------------------------------------------

  /** Reads the lines the server rendered, so that nothing is fetched twice. */
  adopt() {
    for (const item of this.list.querySelectorAll('li[data-epoch]')) {
      const { epoch, seq, ms, level, source, execution, stream, from, to, levels, unknown, node, before, primary } = item.dataset;
      if (from) {
        this.add({ kind: 'gap', epoch, from: Number(from), to: Number(to), by_level: levels.split(' ').map(Number), unknown: Number(unknown) });
        continue;
      }
      if (!seq) {
        this.add({ kind: 'restart', epoch, node, before, primary: primary !== undefined, fromVersion: null, toVersion: null, ms: null });
        continue;
      }
      this.add({
        kind: 'line', epoch, seq: Number(seq), ms: Number(ms) || Date.parse(item.querySelector('time')?.dateTime ?? ''),
        level: Math.max(0, words.levels.indexOf(level)), source: source ?? '', execution: Number(execution) || null,
        stream: stream || null, text: fromMarkup(item.querySelector('.text')),
      });
    }
    const [epoch, seq] = (this.section.dataset.since || '').split(':');
    this.inForce = this.filter();
    // a search that is none was left out by the server, and it says so: without it these lines are followed, too
    if (this.control('q')?.hasAttribute('aria-invalid')) this.inForce.q = '';
    this.intake.restart(epoch && seq ? { epoch, seq: Number(seq) } : null, this.level());
    for (let number = this.rows.first; number < this.rows.end; number += 1) {
      const row = this.rows.get(number);
      if (row.kind === 'gap') this.intake.lost += row.by_level.reduce((sum, n) => sum + n, row.unknown);
      if (row.ms) this.lastAt = row.ms;
    }
    const around = this.wanted && this.seek();
    if (around) {
      this.rows.clear();
      this.lastDay = null;
      this.intake.restart(around, this.level());
    }
    this.list.classList.add('taken');
    document.getElementById('log-empty')?.remove();
    this.showChip(this.filter().execution);
  }

  take(message) {
    if (message.t === 'bad') {
      // of the two topics only the status is of a dispatcher
      if (message.field !== 'dispatcher') this.asked.refused(message.id);
      this.say(message.text, message.field);
      return;
    }
    if (message.t === 'following') {
      const ask = this.asked.agreed(message.id);
      if (ask) this.begin(ask);
      return;
    }
    const taken = this.intake.take(message);
    for (const row of taken) {
      if (row.kind === 'line') {
        this.lastAt = serverNow();
        this.announced.lines += 1;
        if (row.level === 4) this.announced.errors += 1;
        this.know(row.source);
      }
      if (this.follows || this.wanted) this.add(row);
      else this.waiting.push(row);
    }
    if (this.wanted && !this.asked.newest) this.lookForWanted();
    // also what shows no row was taken; a page that can't be seen paints nothing that would say so
    if (document.hidden) this.acknowledge();
    else this.schedule();
  }

  add(row) {
    const ms = row.ms;
    if (ms) {
      const today = day(ms);
      if (this.lastDay && this.lastDay !== today) this.rows.push({ kind: 'day', day: today, epoch: row.epoch });
      this.lastDay = today;
    }
    const grown = this.rows.push(row);
    if (grown >= 0) {
      // painted anew with what it says now
      this.drawn?.get(grown)?.remove();
      this.drawn?.delete(grown);
    }
  }

  acknowledge() {
    if (!this.intake.owes) return;
    const cursor = this.intake.acknowledge(performance.now());
    if (cursor) this.hooks.acknowledge(cursor);
    else this.owing ??= setTimeout(() => { this.owing = undefined; this.acknowledge(); }, ACKNOWLEDGE_EVERY);
  }

  know(source) {
    if (this.sources.has(source)) return;
    this.sources.add(source);
    const control = this.control('source');
    if (this.sources.size > 300 || control?.tagName !== 'SELECT') return;
    if (![...control.options].some((option) => option.value === source)) control.add(new Option(source, source));
  }

  // ---- follow and pause ------------------------------------------------------------------------------------------

  setFollow(follows) {
    if (follows && !this.follows) {
      for (const row of this.waiting.drain()) this.add(row);
      if (!this.picked) this.current = -1;
    }
    this.follows = follows;
    const button = this.control('pause');
    if (button) {
      button.setAttribute('aria-pressed', String(!follows));
      button.textContent = follows ? words.pause : words.follow;
    }
    const end = this.control('follow');
    if (end) end.hidden = follows;
    this.schedule();
  }

  pause() { if (this.follows) this.setFollow(false); }

  follow() {
    this.here = null;
    this.picked = null;
    this.setFollow(true);
  }

  // ---- links to lines --------------------------------------------------------------------------------------------

  readHash() {
    const found = /^#([0-9a-f]{16}):(\d+)$/.exec(window.location.hash);
    this.wanted = found ? { epoch: found[1], seq: Number(found[2]) } : null;
  }

  /** Goes to the wanted line: among those here, or asks the server for those around it. */
  seek() {
    const { epoch, seq } = this.wanted;
    if (this.rows.find(epoch, seq) >= 0) { this.lookForWanted(); return null; }
    return { epoch, seq: Math.max(0, seq - AROUND) };
  }

  lookForWanted(late = false) {
    if (!this.wanted) return;
    const { epoch, seq } = this.wanted;
    const number = this.rows.find(epoch, seq);
    const { cursor } = this.intake;
    const past = cursor && (cursor.epoch !== epoch || cursor.seq > seq);
    if (number < 0 && !past) return;
    // lines after it belong to the picture, if they come soon
    if (!late && this.rows.end - Math.max(number, this.rows.first) < AROUND) {
      clearTimeout(this.lateness);
      this.lateness = setTimeout(() => this.lookForWanted(true), 500);
      return;
    }
    clearTimeout(this.lateness);
    this.wanted = null;
    this.setFollow(false);
    this.here = `${epoch}:${seq}`;
    if (number < 0 || this.rows.get(number).kind !== 'line') this.say(words.gone(`${epoch}:${seq}`));
    this.show(number < 0 ? this.rows.first : number);
  }

  linkTo(number) {
    const row = this.rows.get(number);
    if (row?.kind !== 'line') return;
    this.here = `${row.epoch}:${row.seq}`;
    window.history.replaceState(null, '', `#${this.here}`);
    this.setFollow(false);
  }

  // ---- painting --------------------------------------------------------------------------------------------------

  schedule() {
    if (this.frame || document.hidden) return;
    this.frame = requestAnimationFrame(() => { this.frame = 0; this.paint(); });
  }

  repaint() { this.drawn = null; this.schedule(); }

  heightOf(number) {
    if (!this.wraps) return this.lineHeight;
    const row = this.rows.get(number);
    const length = row.kind === 'line' ? row.text.length + row.source.length + 18 : 40;
    return this.lineHeight * Math.max(1, Math.ceil(length / this.columns));
  }

  measure() {
    const style = getComputedStyle(this.list);
    const probe = make('li', 'probe');
    probe.append(make('span', 'text', '0'.repeat(100)));
    this.list.append(probe);
    this.lineHeight = parseFloat(getComputedStyle(probe).lineHeight) || 20;
    const width = probe.firstChild.getBoundingClientRect().width / 100 || 8;
    probe.remove();
    const inner = this.list.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    this.columns = Math.max(20, Math.floor(inner / width));
    this.measured = `${this.list.clientWidth}/${this.wraps}`;
  }

  /** The rows from `top` pixels on, as many as can be seen, and the room before and after them. */
  range(top, height) {
    const { first, end } = this.rows;
    if (!this.wraps) {
      const from = Math.max(first, first + Math.floor(top / this.lineHeight) - OVERSCAN);
      const to = Math.min(end, first + Math.ceil((top + height) / this.lineHeight) + OVERSCAN);
      return { from: Math.min(from, end), to, before: (Math.min(from, end) - first) * this.lineHeight, after: Math.max(0, end - to) * this.lineHeight };
    }
    let y = 0;
    let from = first;
    while (from < end && y + this.heightOf(from) < top - OVERSCAN * this.lineHeight) { y += this.heightOf(from); from += 1; }
    const before = y;
    let to = from;
    while (to < end && y < top + height + OVERSCAN * this.lineHeight) { y += this.heightOf(to); to += 1; }
    let after = 0;
    for (let number = to; number < end; number += 1) after += this.heightOf(number);
    return { from, to, before, after };
  }

  paint() {
    this.wraps = Boolean(this.control('wrap')?.checked);
    this.list.classList.toggle('wrap', this.wraps);
    if (!this.lineHeight || this.measured !== `${this.list.clientWidth}/${this.wraps}`) { this.measure(); this.drawn = null; }
    const height = this.list.clientHeight;
    let top = this.list.scrollTop;
    // rows that made room would move the others: the reader keeps the place
    if (!this.follows && this.paintedFirst !== undefined && this.rows.first > this.paintedFirst) {
      top = Math.max(0, top - (this.rows.first - this.paintedFirst) * this.lineHeight);
      this.scrollTo(top);
    }
    this.paintedFirst = this.rows.first;
    if (this.follows) {
      let all = 0;
      if (this.wraps) for (let number = this.rows.first; number < this.rows.end; number += 1) all += this.heightOf(number);
      else all = this.rows.size * this.lineHeight;
      top = Math.max(0, all - height);
    }
    const { from, to, before, after } = this.range(top, height);
    this.findAll();
    this.draw(from, to, before, after);
    if (this.follows) this.scrollTo(this.list.scrollHeight);
    else if (this.pendingTop !== undefined) { this.scrollTo(this.pendingTop); this.pendingTop = undefined; }
    this.showWaiting();
    this.showFooter();
    this.acknowledge();
  }

  draw(from, to, before, after) {
    this.padBefore ??= make('li', 'pad');
    this.padAfter ??= make('li', 'pad');
    for (const pad of [this.padBefore, this.padAfter]) pad.setAttribute('aria-hidden', 'true');
    this.padBefore.style.height = `${before}px`;
    this.padAfter.style.height = `${after}px`;
    const old = this.drawn ?? new Map();
    const now = new Map();
    if (!this.drawn) this.list.replaceChildren(this.padBefore, this.padAfter);
    for (const [number, element] of old) if (number < from || number >= to) element.remove();
    let place = this.padBefore;
    for (let number = from; number < to; number += 1) {
      const element = old.get(number) ?? this.element(number);
      if (place.nextSibling !== element) place.after(element);
      this.dress(element, number);
      now.set(number, element);
      place = element;
    }
    if (place.nextSibling !== this.padAfter) place.after(this.padAfter);
    this.drawn = now;
    this.empty ??= make('li', 'empty');
    if (this.rows.size === 0) {
      this.empty.textContent = this.filtered() ? words.emptyFiltered : words.empty;
      if (this.filtered()) {
        const clear = make('button', 'clear', words.clearFilter);
        clear.type = 'button';
        clear.onclick = () => {
          const inverse = this.control('inverse');
          if (inverse) inverse.checked = false;
          this.refilter({ level: this.control('level')?.querySelector('option')?.value ?? '', source: '', q: '', execution: '' });
        };
        this.empty.append(' ', clear);
      }
      this.padBefore.after(this.empty);
    } else this.empty.remove();
  }

  element(number) {
    const row = this.rows.get(number);
    if (row.kind === 'line') return this.lineElement(row);
    const item = make('li', row.kind === 'skipped' ? 'gap skipped' : row.kind);
    const known = (counts) => counts.map((count, level) => (count ? `${count.toLocaleString('en')} ${words.levels[level]}` : '')).filter(Boolean).join(', ');
    if (row.kind === 'gap') {
      const unknown = row.unknown ? words.unknownLevel(row.unknown) : '';
      const count = row.by_level.reduce((sum, n) => sum + n, row.unknown);
      item.textContent = words.gap(count, [known(row.by_level), unknown].filter(Boolean).join(', '), this.narrow());
      item.title = `${row.epoch}:${row.from}–${row.to}`;
    }
    else if (row.kind === 'skipped') item.textContent = words.skipped(row.count, known(row.by_level));
    else if (row.kind === 'restart') {
      const turned = row.node && row.before && row.node !== row.before;
      item.textContent = turned
        ? words.turn(plain(row.node), plain(row.before), row.primary)
        : words.restart(plain(row.fromVersion ?? ''), plain(row.toVersion ?? ''), row.ms ? clock(row.ms).slice(0, 8) : '');
    }
    else item.textContent = row.day;
    return item;
  }

  lineElement(row) {
    const item = make('li', `line level-${words.levels[row.level]}${row.stream === 'stderr' ? ' stderr' : ''}`);
    item.dataset.epoch = row.epoch;
    item.dataset.seq = row.seq;
    const time = make('time', '', clock(row.ms));
    time.dateTime = new Date(row.ms).toISOString();
    time.title = `${full(row.ms)} · ${row.epoch}:${row.seq} · ${words.linkTo}`;
    const source = make('span', 'source', plain(row.source));
    source.title = words.onlySource(plain(row.source));
    item.append(time, ' ', source, ' ');
    if (row.execution) {
      const run = make('span', 'run', `#${row.execution}`);
      run.dataset.execution = row.execution;
      item.append(run, ' ');
    }
    item.append(make('span', 'text'));
    return item;
  }

  /** What can change while a row stands: marks, choice, place. */
  dress(element, number) {
    const row = this.rows.get(number);
    element.dataset.number = number;
    const mark = (name, on) => { if (element.classList.contains(name) !== on) element.classList.toggle(name, on); };
    mark('picked', Boolean(this.picked && number >= Math.min(...this.picked) && number <= Math.max(...this.picked)));
    mark('current', number === this.current);
    if (row.kind !== 'line') return;
    mark('here', this.here === `${row.epoch}:${row.seq}`);
    const now = this.findNow === number;
    const key = `${this.marks?.key ?? ''}|${now}`;
    if (element.dataset.marks === key) return;
    element.dataset.marks = key;
    const text = element.querySelector('.text');
    const ranges = hits(plain(row.text), this.marks?.pattern);
    text.replaceChildren(...marked(pieces(row.text), ranges).map((part) => {
      if (part.mark) {
        const found = make('mark', `found${now ? ' now' : ''}${part.classes ? ` ${part.classes}` : ''}`, part.text);
        return found;
      }
      return part.classes ? make('span', part.classes, part.text) : document.createTextNode(part.text);
    }));
  }

  scrollTo(top) {
    this.own = true;
    this.list.scrollTop = top;
    this.lastTop = this.list.scrollTop;
  }

  /** Brings a row into the middle. */
  show(number) {
    let top = 0;
    if (this.wraps) for (let n = this.rows.first; n < number; n += 1) top += this.heightOf(n);
    else top = (number - this.rows.first) * (this.lineHeight || 20);
    this.pendingTop = Math.max(0, top - this.list.clientHeight / 2);
    this.current = number;
    this.scrollTo(this.pendingTop);
    this.schedule();
  }

  showWaiting() {
    const output = this.control('waiting');
    if (!output) return;
    const text = this.follows || !this.waiting.lines ? words.nothingWaits : words.waitingLines(this.waiting.lines, this.waiting.errors);
    if (output.textContent !== text) output.textContent = text;
    output.classList.toggle('errors', this.waiting.errors > 0);
  }

  showFooter() {
    const footer = this.control('footer');
    if (!footer) return;
    const hidden = this.intake.hidden.reduce((sum, count) => sum + count, 0);
    const last = this.lastAt ? words.lastLine(relative(this.lastAt, serverNow())) : words.noLine;
    const text = words.footer(this.rows.lines + this.waiting.rows.lines, hidden, this.intake.lost, last);
    if (footer.textContent !== text) footer.textContent = text;
  }

  announce() {
    const { lines, errors } = this.announced;
    this.announced = { lines: 0, errors: 0 };
    if (!this.control('announce')?.checked || !lines) return;
    this.announcer.textContent = '';
    setTimeout(() => { this.announcer.textContent = words.announced(lines, errors); }, 50);
  }

  /** Says something below the lines, or what is wrong with a field of the filter right below that. */
  say(text, field) {
    const input = field ? this.control(field) : null;
    for (const id of ['q', 'level', 'source']) {
      this.control(id)?.removeAttribute('aria-invalid');
      this.control(id)?.removeAttribute('aria-describedby');
    }
    this.fault.textContent = input ? text : '';
    this.fault.hidden = !this.fault.textContent;
    this.note.textContent = input ? '' : text;
    this.note.hidden = !this.note.textContent;
    input?.setAttribute('aria-invalid', 'true');
    input?.setAttribute('aria-describedby', this.fault.id);
  }

  // ---- finding ---------------------------------------------------------------------------------------------------

  clearFinds() { this.finds = []; this.findUpto = -1; this.findNow = -1; }

  findAll() {
    const typed = this.control('find')?.value ?? '';
    const text = typed || (this.inForce.inverse ? '' : this.inForce.q);
    const key = `${typed ? 'find' : 'q'}:${text}`;
    if (this.marks?.key !== key) {
      this.marks = { key, pattern: pattern(text) };
      this.clearFinds();
    }
    if (!typed || !this.marks.pattern) { this.showFound(false); return; }
    const start = Math.max(this.rows.first, this.findUpto);
    for (let number = start; number < this.rows.end; number += 1) {
      const row = this.rows.get(number);
      if (row.kind === 'line' && hits(plain(row.text), this.marks.pattern).length) this.finds.push(number);
    }
    this.findUpto = this.rows.end;
    while (this.finds.length && this.finds[0] < this.rows.first) this.finds.shift();
    this.showFound(true);
  }

  showFound(searching) {
    const count = this.control('find-count');
    if (!count) return;
    const text = searching ? words.found(this.finds.indexOf(this.findNow) + 1, this.finds.length) : '';
    if (count.textContent !== text) count.textContent = text;
  }

  find(step) {
    this.findAll();
    if (!this.finds.length) return;
    this.pause();
    const at = this.finds.indexOf(this.findNow);
    let next;
    if (at >= 0) next = (at + step + this.finds.length) % this.finds.length;
    else {
      const from = this.current >= 0 ? this.current : this.rows.end;
      const before = this.finds.filter((number) => number < from).length;
      next = step < 0 || before === this.finds.length ? before - 1 : before;
      if (next < 0) next = this.finds.length - 1;
    }
    this.findNow = this.finds[next];
    this.show(this.findNow);
  }

  // ---- choosing and copying --------------------------------------------------------------------------------------

  asText(number) {
    const row = this.rows.get(number);
    if (row.kind !== 'line') return `--- ${this.element(number).textContent} ---`;
    const run = row.execution ? ` #${row.execution}` : '';
    return `${new Date(row.ms).toISOString()} ${words.levels[row.level].padEnd(5)} ${plain(row.source)}${run} | ${plain(row.text)}`;
  }

  chosen() {
    const [from, to] = this.picked ? [Math.min(...this.picked), Math.max(...this.picked)] : [this.rows.first, this.rows.end - 1];
    const lines = [];
    for (let number = Math.max(from, this.rows.first); number <= Math.min(to, this.rows.end - 1); number += 1) lines.push(this.asText(number));
    return lines;
  }

  async copy() {
    const lines = this.chosen();
    const done = await copyText(`${lines.join('\n')}\n`);
    say(done ? words.copied(lines.length) : words.notCopied, done ? 'good' : 'bad');
  }

  pick(from, to) {
    this.pause();
    this.picked = [from, to];
    this.schedule();
  }

  // ---- the reader's hands ----------------------------------------------------------------------------------------

  buildTools() {
    this.note = make('p', 'note');
    this.note.id = 'log-note';
    this.note.hidden = true;
    this.note.setAttribute('role', 'status');
    this.announcer = make('p', 'unseen');
    this.announcer.setAttribute('aria-live', 'polite');
    this.list.after(this.note, this.announcer);
    // the server makes it if the page came with a search that is none
    this.fault = this.control('fault') ?? make('p', 'bad');
    if (!this.fault.isConnected) {
      this.fault.id = 'log-fault';
      this.fault.hidden = true;
      this.fault.setAttribute('role', 'alert');
      (this.control('filter') ?? this.list).after(this.fault);
    }
    if (!this.control('find')) {
      const bar = make('div', 'bar find');
      const input = make('input');
      Object.assign(input, { type: 'search', id: 'log-find', placeholder: words.find, maxLength: 200 });
      input.setAttribute('aria-label', words.find);
      const count = make('output');
      count.id = 'log-find-count';
      bar.append(input, ' ', count);
      this.list.before(bar);
    }
    this.help = make('dialog', 'keys');
    const title = make('h2', '', words.help);
    title.id = 'log-keys';
    this.help.setAttribute('aria-labelledby', title.id);
    const keys = make('dl');
    for (const [key, text] of words.keys) keys.append(make('dt', '', key), make('dd', '', text));
    const close = make('button', '', words.close);
    close.type = 'button';
    close.onclick = () => this.help.close();
    this.help.append(title, keys, close);
    this.section.append(this.help);
    if (!this.list.hasAttribute('tabindex')) this.list.tabIndex = 0;
  }

  number(target) {
    const item = target.closest?.('#log-lines > li[data-number]');
    return item ? Number(item.dataset.number) : -1;
  }

  listen() {
    const on = (element, type, act) => element?.addEventListener(type, act);
    this.lastTop = this.list.scrollTop;
    on(this.list, 'scroll', () => {
      const top = this.list.scrollTop;
      const own = this.own;
      this.own = false;
      if (!own && top < this.lastTop - 1) this.pause();
      else if (!own && !this.follows && !this.picked && !this.here
        && top > this.lastTop && top + this.list.clientHeight >= this.list.scrollHeight - NEAR_END) this.follow();
      this.lastTop = top;
      this.schedule();
    });
    on(this.list, 'wheel', (event) => { if (event.deltaY < 0) this.pause(); });
    on(this.list, 'touchstart', () => this.pause());
    on(this.list, 'mousedown', (event) => {
      const number = this.number(event.target);
      if (event.button !== 0 || number < 0) return;
      this.pause();
      if (event.shiftKey && this.current >= 0) {
        event.preventDefault();
        this.pick(this.current, number);
        return;
      }
      this.current = number;
      this.picked = null;
      this.dragFrom = number;
      this.schedule();
    });
    on(this.list, 'mouseover', (event) => {
      if (this.dragFrom === undefined || !(event.buttons & 1)) return;
      const number = this.number(event.target);
      if (number < 0 || (number === this.dragFrom && !this.picked)) return;
      window.getSelection()?.removeAllRanges();
      this.pick(this.dragFrom, number);
    });
    on(window, 'mouseup', () => { this.dragFrom = undefined; });
    on(this.list, 'click', (event) => this.click(event));
    on(this.list, 'copy', (event) => {
      if (!this.picked) return;
      event.preventDefault();
      event.clipboardData.setData('text/plain', `${this.chosen().join('\n')}\n`);
    });
    on(this.control('pause'), 'click', () => (this.follows ? this.setFollow(false) : this.follow()));
    on(this.control('follow'), 'click', () => this.follow());
    on(this.control('copy'), 'click', () => this.copy());
    on(this.control('help'), 'click', () => this.help.showModal());
    on(this.control('wrap'), 'change', () => this.repaint());
    on(this.control('find'), 'input', () => { this.findNow = -1; this.schedule(); });
    on(this.control('find'), 'keydown', (event) => {
      if (event.key === 'Enter') { event.preventDefault(); this.find(event.shiftKey ? -1 : 1); }
      if (event.key === 'Escape') { event.target.value = ''; this.list.focus(); this.schedule(); }
    });
    on(this.control('find-next'), 'click', () => this.find(1));
    on(this.control('find-previous'), 'click', () => this.find(-1));
    on(this.control('filter'), 'submit', (event) => { event.preventDefault(); this.refilter(); });
    for (const id of ['level', 'source', 'inverse']) on(this.control(id), 'change', () => this.refilter());
    on(this.control('q'), 'input', () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.refilter(), 300);
    });
    on(window, 'resize', () => this.schedule());
    on(window, 'hashchange', () => {
      this.readHash();
      const around = this.wanted && this.seek();
      if (around) this.ask(around);
    });
    on(document, 'visibilitychange', () => this.schedule());
    on(document, 'keydown', (event) => this.key(event));
    on(document, 'click', (event) => {
      if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      const jump = event.target.closest?.('[data-log-source], [data-log-at], [data-execution]');
      if (!jump) { this.clickRow(event); return; }
      if (this.list.contains(jump)) return;
      const { logSource, logAt, execution } = jump.dataset;
      if (jump.matches('a[href], button')) event.preventDefault();
      if (logAt) { window.location.hash = logAt; return; }
      this.refilter({ ...(logSource === undefined ? {} : { source: logSource }), execution: execution ?? '' });
      this.section.scrollIntoView({ block: 'nearest' });
    });
  }

  /** A click on a dispatcher's row shows only its lines; another one all again. */
  clickRow(event) {
    const row = event.target.closest?.('#dispatchers tr[data-source]');
    if (!row || event.target.closest('a, button, summary, details, input, label') || window.getSelection()?.isCollapsed === false) return;
    const { source } = row.dataset;
    this.refilter({ source: this.filter().sources.includes(source) ? '' : source, execution: '' });
  }

  click(event) {
    const number = this.number(event.target);
    if (number < 0 || this.picked) return;
    if (event.target.closest('time')) { this.linkTo(number); return; }
    if (event.target.closest('.source') && window.getSelection()?.isCollapsed !== false) {
      const { source } = this.rows.get(number);
      this.refilter({ source: this.filter().sources.includes(source) ? '' : source });
    }
    const run = event.target.closest('.run');
    if (run) this.refilter({ execution: run.dataset.execution });
  }

  key(event) {
    const typing = event.target.closest?.('input, textarea, select, [contenteditable]');
    if (event.altKey || this.help.open || document.querySelector('dialog[open]')) return;
    const inside = this.list.contains(event.target);
    if (event.ctrlKey || event.metaKey) {
      if (inside && event.key === 'a') { event.preventDefault(); this.pick(this.rows.first, this.rows.end - 1); }
      if (inside && event.key === 'c' && this.picked) { event.preventDefault(); this.copy(); }
      return;
    }
    if (typing) return;
    const step = (by) => {
      this.pause();
      const from = this.current < 0 ? this.rows.end : this.current;
      this.show(Math.min(this.rows.end - 1, Math.max(this.rows.first, from + by)));
    };
    const acts = {
      j: () => step(1), k: () => step(-1), G: () => this.follow(), p: () => (this.follows ? this.pause() : this.follow()),
      f: () => this.control('q')?.focus(), '/': () => this.control('find')?.focus(), n: () => this.find(1), N: () => this.find(-1),
      '?': () => this.help.showModal(),
    };
    if (inside) {
      Object.assign(acts, {
        End: () => this.follow(), Home: () => { this.pause(); this.show(this.rows.first); },
        ArrowUp: () => step(-1), ArrowDown: () => step(1), Enter: () => this.linkTo(this.current),
        Escape: () => { this.picked = null; this.here = null; this.schedule(); },
        PageUp: () => step(-Math.floor(this.list.clientHeight / this.lineHeight)),
        PageDown: () => step(Math.floor(this.list.clientHeight / this.lineHeight)),
      });
    }
    const act = acts[event.key];
    if (act) { event.preventDefault(); act(); }
  }
}
