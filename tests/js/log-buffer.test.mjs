import assert from 'node:assert/strict';
import test from 'node:test';

import { Intake, Rows, Waiting } from '../../static/log-buffer.js';
import { words } from '../../static/words.js';

const E1 = '0000000000000001';
const E2 = '0000000000000002';
const line = (seq, level = 2, text = `line ${seq}`) => [seq, 1795223419123, level, 's', null, null, text];
const log = (epoch, seqs, next = seqs.at(-1), hidden = [0, 0, 0, 0, 0]) => ({ t: 'log', epoch, next, rows: seqs.map((seq) => line(seq)), hidden });
const row = (seq, level = 2, text = '') => ({ kind: 'line', epoch: E1, seq, level, text, source: 's' });
const told = (rows) => rows.map((r) => (r.kind === 'line' ? r.seq : r.kind === 'gap' ? `${r.from}-${r.to}` : '|'));

test('rows are bounded in number, and what made room is counted by level', () => {
  const rows = new Rows(3, 1e9);
  for (let seq = 1; seq <= 5; seq += 1) rows.push(row(seq, seq === 1 ? 4 : 2));
  assert.deepEqual([rows.size, rows.first, rows.end], [3, 2, 5]);
  assert.equal(rows.get(1), undefined);
  assert.deepEqual([rows.get(2).seq, rows.get(4).seq], [3, 5]);
  assert.deepEqual(rows.dropped, [0, 0, 1, 0, 1]);
});

test('rows are bounded in bytes, but the newest always stays', () => {
  const rows = new Rows(1000, 10_000);
  for (let seq = 1; seq <= 100; seq += 1) {
    rows.push(row(seq, 2, 'x'.repeat(1000)));
    assert.ok(rows.bytes <= 10_000);
  }
  rows.push(row(101, 2, 'x'.repeat(16_000)));
  assert.deepEqual([rows.size, rows.get(rows.first).seq], [1, 101]);
});

test('numbers stay while many rows come and go', () => {
  const rows = new Rows(100, 1e9);
  for (let seq = 1; seq <= 50_000; seq += 1) rows.push(row(seq));
  for (let number = rows.first; number < rows.end; number += 1) assert.equal(rows.get(number).seq, number + 1);
  assert.ok(rows.items.length < 10_000, 'what made room is given back');
  rows.clear();
  assert.deepEqual([rows.size, rows.first], [0, 50_000], 'a number is never used twice');
});

test('a line is found by its name, a lost one by the gap it is in', () => {
  const rows = new Rows();
  rows.push(row(1));
  rows.push({ kind: 'gap', epoch: E1, from: 2, to: 9, by_level: [0, 0, 0, 0, 0] });
  rows.push(row(10));
  assert.deepEqual([rows.find(E1, 10), rows.find(E1, 5), rows.find(E1, 11), rows.find(E2, 1)], [2, 1, -1, -1]);
});

test('what was told before is dropped', () => {
  const intake = new Intake();
  assert.deepEqual(told(intake.take(log(E1, [1, 2, 3]))), [1, 2, 3]);
  assert.deepEqual(told(intake.take(log(E1, [2, 3, 4]))), [4]);
  assert.deepEqual([intake.since, intake.repeated], [`${E1}:4`, 2]);
  assert.deepEqual(told(intake.take({ t: 'gap', epoch: E1, from: 3, to: 6, by_level: [0, 0, 4, 0, 0] })), ['5-6']);
  assert.deepEqual(told(intake.take({ t: 'gap', epoch: E1, from: 3, to: 6, by_level: [0, 0, 4, 0, 0] })), []);
  assert.equal(intake.lost, 2);
});

test('hidden lines move the place and are counted', () => {
  const intake = new Intake();
  assert.deepEqual(told(intake.take(log(E1, [5], 9, [1, 0, 3, 0, 0]))), [5]);
  assert.equal(intake.since, `${E1}:9`);
  assert.deepEqual(intake.take({ t: 'log', epoch: E1, next: 12, rows: [], hidden: [0, 0, 3, 0, 0] }), []);
  assert.deepEqual([intake.since, intake.hidden], [`${E1}:12`, [1, 0, 6, 0, 0]]);
});

test('whose lines end and begin is kept, so that another primary is told from the same node again', () => {
  const intake = new Intake();
  const turn = { t: 'restart', epoch: E2, before: 'service-a', node: 'service-b', primary: true, from: null, to: '0.1.0', at: 5 };
  const [row] = intake.take(turn);
  assert.deepEqual([row.before, row.node, row.primary], ['service-a', 'service-b', true]);
  assert.equal(words.turn(row.node, row.before, row.primary), 'service-b is the primary now (was service-a)');
  assert.match(words.turn(row.node, row.before, false), /^lines of service-b/);
});

test('a node that is primary again goes on counting, and nobody who resumes gets the lines in between twice', () => {
  const intake = new Intake();
  intake.take({ ...log(E1, [7]), node: 'a' });
  intake.take({ t: 'restart', epoch: E2, before: 'a', node: 'b', primary: true });
  intake.take({ ...log(E2, [1, 2]), node: 'b' });
  intake.take({ t: 'restart', epoch: E1, before: 'b', node: 'a', primary: true });
  assert.equal(intake.since, `${E2}:2`, 'of a place in E1 nobody could say whether it is before or after E2');
  assert.deepEqual(told(intake.take(log(E1, [8]))), [8]);
  const [row] = intake.take({ ...log(E2, [3]), node: 'b' });
  assert.deepEqual([row.kind, row.before, row.node], ['restart', 'a', 'b'], 'the word that nobody said has their names');
});

test('a new life is told once, and made if nobody told it', () => {
  const intake = new Intake();
  intake.take(log(E1, [7]));
  const restart = { t: 'restart', epoch: E2, from: '0.1.0', to: '0.2.0', at: 5 };
  assert.deepEqual(told(intake.take(restart)), ['|']);
  assert.deepEqual(intake.take(restart), []);
  assert.equal(intake.since, `${E1}:7`, 'whoever resumes now is told of it again');
  assert.deepEqual(told(intake.take(log(E2, [1]))), [1]);
  assert.equal(intake.since, `${E2}:1`);
  assert.deepEqual(told(intake.take(log('0000000000000003', [1]))), ['|', 1]);
});

test('over forced reconnects nothing is lost untold and nothing comes twice', () => {
  let seed = 3;
  const random = (n) => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed % n; };
  for (let turn = 0; turn < 200; turn += 1) {
    const intake = new Intake();
    const seen = [];
    let last = 0;
    let sent = 0;
    for (let step = 0; step < 100; step += 1) {
      last += random(6);
      if (random(5) === 0) sent = intake.cursor?.seq ?? 0; // reconnect: resume by `since`
      if (random(9) === 0) sent = Math.max(0, sent - random(4)); // and a server that repeats
      const oldest = Math.max(1, last - 20);
      if (sent + 1 < oldest) {
        seen.push(...intake.take({ t: 'gap', epoch: E1, from: sent + 1, to: oldest - 1, by_level: [0, 0, 0, 0, 0] }));
        sent = oldest - 1;
      }
      const to = Math.min(last, sent + random(8));
      if (to > sent) seen.push(...intake.take(log(E1, Array.from({ length: to - sent }, (_, n) => sent + 1 + n))));
      sent = Math.max(sent, to);
    }
    let place = 0;
    for (const r of seen) {
      assert.equal(r.kind === 'gap' ? r.from : r.seq, place + 1);
      place = r.kind === 'gap' ? r.to : r.seq;
    }
  }
});

test('while the reader pauses lines wait, bounded, and the rest is told', () => {
  const waiting = new Waiting(3, 1e9);
  for (let seq = 1; seq <= 5; seq += 1) waiting.push(row(seq, seq === 2 ? 4 : 2));
  assert.deepEqual([waiting.lines, waiting.errors, waiting.rows.size], [5, 1, 3]);
  const rows = waiting.drain();
  assert.deepEqual(rows.map((r) => r.kind), ['skipped', 'line', 'line', 'line']);
  assert.deepEqual([rows[0].count, rows[0].by_level], [2, [0, 0, 1, 0, 1]]);
  assert.deepEqual([waiting.lines, waiting.errors, waiting.drain().length], [0, 0, 0]);
});

const gap = (from, to, byLevel) => ({ t: 'gap', epoch: E1, from, to, by_level: byLevel });

test('a finished flood is one gap with counts, not many that touch', () => {
  const intake = new Intake();
  const rows = new Rows();
  rows.push(row(1));
  intake.restart({ epoch: E1, seq: 1 });
  const grown = [];
  for (let from = 2; from < 2002; from += 20) {
    for (const one of intake.take(gap(from, from + 19, [0, 0, 18, 0, 2]))) grown.push(rows.push(one));
  }
  assert.deepEqual([rows.size, grown[0], grown[1], grown.at(-1)], [2, -1, 1, 1]);
  const { from, to, by_level: counts, unknown } = rows.get(1);
  assert.deepEqual([from, to, counts, unknown, intake.lost], [2, 2001, [0, 0, 1800, 0, 200], 0, 2000]);
  rows.push(row(2002));
  for (const one of intake.take(gap(2002, 2010, [0, 0, 0, 0, 0]))) rows.push(one);
  assert.equal(rows.size, 4, 'a line stands between');
  assert.equal(rows.get(3).unknown, 9);
  assert.deepEqual([rows.find(E1, 777), rows.find(E1, 2005)], [1, 3], 'a lost line is found by the gap that it is in');
});

test('gaps of two lives stay apart', () => {
  const rows = new Rows();
  rows.push({ kind: 'gap', epoch: E1, from: 1, to: 1, by_level: [0, 0, 1, 0, 0], unknown: 0 });
  rows.push({ kind: 'gap', epoch: E2, from: 1, to: 1, by_level: [0, 0, 1, 0, 0], unknown: 0 });
  assert.equal(rows.size, 2);
});

test('a gap counts what could have passed the level, and is none if nothing could', () => {
  const intake = new Intake();
  intake.restart({ epoch: E1, seq: 0 }, 3);
  assert.deepEqual(intake.take(gap(1, 10, [0, 2, 8, 0, 0])), [], 'debug and info only');
  assert.deepEqual([intake.lost, intake.hidden, intake.since], [0, [0, 2, 8, 0, 0], `${E1}:10`]);
  const [shown] = intake.take(gap(11, 20, [0, 0, 5, 1, 2]));
  assert.deepEqual([shown.by_level, shown.unknown, intake.lost], [[0, 0, 0, 1, 2], 2, 5], 'two nobody knows the level of');
});

test('what waits while paused is joined, too', () => {
  const waiting = new Waiting();
  const rows = new Rows();
  const lost = (from, to) => ({ kind: 'gap', epoch: E1, from, to, by_level: [0, 0, to - from + 1, 0, 0], unknown: 0 });
  rows.push(lost(1, 5));
  waiting.push(lost(6, 7));
  waiting.push(lost(8, 9));
  for (const one of waiting.drain()) rows.push(one);
  assert.deepEqual([rows.size, rows.get(0).to, rows.get(0).by_level[2]], [1, 9, 9]);
});

test('a place is acknowledged once, and once more by whoever begins anew', () => {
  const intake = new Intake();
  assert.equal(intake.acknowledge(0), null, 'nothing is known');
  const lines = () => intake.take({ t: 'log', epoch: 'e', next: 100, rows: [[100, 0, 2, 's', null, null, 'x']] });
  lines();
  assert.deepEqual([intake.acknowledge(0), intake.acknowledge(1000)], [{ epoch: 'e', seq: 100 }, null]);
  // another filter: the server counts anew what is under way, and these lines end at the same place
  intake.restart();
  lines();
  assert.deepEqual(intake.acknowledge(0), { epoch: 'e', seq: 100 });
});

test('a stream is acknowledged every quarter of a second, and before the server would wait', () => {
  const intake = new Intake();
  let seq = 0;
  const take = (count, text) => {
    const rows = Array.from({ length: count }, () => [(seq += 1), 0, 2, 's', null, null, text]);
    intake.take({ t: 'log', epoch: 'e', next: seq, rows });
  };
  take(1, 'x');
  assert.equal(intake.acknowledge(1000).seq, 1, 'the first at once');
  take(1, 'x');
  assert.deepEqual([intake.acknowledge(1249), intake.owes], [null, true]);
  assert.deepEqual([intake.acknowledge(1250).seq, intake.owes], [2, false]);
  take(499, 'x');
  assert.equal(intake.acknowledge(1251), null);
  take(1, 'x');
  assert.equal(intake.acknowledge(1251).seq, 502, 'many lines');
  take(4, 'x'.repeat(8 << 10));
  assert.equal(intake.acknowledge(1251).seq, 506, 'long lines');
});
