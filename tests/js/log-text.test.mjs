import assert from 'node:assert/strict';
import test from 'node:test';

import { fromMarkup, hits, marked, pattern, pieces, plain } from '../../static/log-text.js';

const joined = (parts) => parts.map((part) => part.text).join('');

test('colours become classes and leave nothing behind', () => {
  const parts = pieces('a\u001b[1;31mred\u001b[0m b\u001b[38;5;46mgreen\u001b[48;2;0;0;255mblue\u001b[m!');
  assert.deepEqual(parts.map(({ text, classes }) => [text, classes]), [
    ['a', ''],
    ['red', 'ansi-bold ansi-fg-1'],
    [' b', ''],
    ['green', 'ansi-fg-10'],
    ['blue', 'ansi-fg-10 ansi-bg-12'],
    ['!', ''],
  ]);
});

test('other terminal codes than colours are shown, not obeyed, as on the server', () => {
  assert.equal(plain('a\u001b[2Jb\u001b]0;title\u0007c\u001b[12;3Hd'), 'a␛[2Jb␛]0;title␇c␛[12;3Hd');
  assert.equal(plain('x\u001b[31'), 'x␛[31');
  assert.equal(plain('\u001b'), '␛');
});

test('control and bidi characters are made visible', () => {
  assert.equal(plain('a\u0000b\rc\nd\u007fe\tf'), 'a␀b␍c␊d␡e\tf');
  assert.equal(plain('\u202egnp.exe\u2066'), '⟦U+202E⟧gnp.exe⟦U+2066⟧');
  assert.equal(plain('\u200b\ufeff\u0085\u061c'), '⟦U+200B⟧⟦U+FEFF⟧⟦U+0085⟧⟦U+061C⟧');
  const parts = pieces('ok\u0007!');
  assert.deepEqual(parts.map(({ text, classes }) => [text, classes]), [['ok', ''], ['␇', 'ctrl'], ['!', '']]);
  assert.equal(plain('<script>alert(1)</script> 漢 ü 😀'), '<script>alert(1)</script> 漢 ü 😀');
});

test('pieces put together are the plain text, whatever the text', () => {
  const alphabet = ['a', '\u001b', '[', '3', '1', ';', 'm', '\u0007', '\u202e', ' ', '\u001b[0m', '\u001b[38;5;1m', '\n', '😀', ']'];
  let seed = 7;
  const random = (n) => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed % n; };
  for (let turn = 0; turn < 2000; turn += 1) {
    const text = Array.from({ length: random(30) }, () => alphabet[random(alphabet.length)]).join('');
    assert.equal(joined(pieces(text)), plain(text), JSON.stringify(text));
    assert.doesNotMatch(plain(text), /[\u0000-\u0008\u000a-\u001f\u202e]/);
  }
});

test('hits are marked across pieces', () => {
  const text = 'ab\u001b[31mcd\u001b[0mef';
  const ranges = hits(plain(text), pattern('bcde'));
  assert.deepEqual(ranges, [[1, 5]]);
  const parts = marked(pieces(text), ranges);
  assert.deepEqual(parts.map(({ text: part, mark }) => [part, mark]), [['a', false], ['b', true], ['cd', true], ['e', true], ['f', false]]);
  assert.equal(joined(parts), 'abcdef');
});

test('capitals mean that case matters, and what is no expression is taken as it is', () => {
  assert.equal(hits('Error error', pattern('error')).length, 2);
  assert.equal(hits('Error error', pattern('Error')).length, 1);
  assert.deepEqual(hits('a(b a.b', pattern('a(b')), [[0, 3]]);
  assert.equal(hits('aaa', pattern('x*')).length, 0);
  assert.equal(pattern(''), null);
});

test('what the server rendered keeps its colours when the script takes over', () => {
  const span = (textContent, ...classList) => ({ textContent, classList });
  const element = { childNodes: [{ textContent: 'a ' }, span('red', 'ansi-bold', 'ansi-fg-1'), span('␛', 'ctrl'), span('b', 'ansi-fg-9', 'ansi-bg-12')] };
  const parts = pieces(fromMarkup(element));
  assert.deepEqual(parts.map(({ text, classes }) => [text, classes]), [
    ['a ', ''], ['red', 'ansi-bold ansi-fg-1'], ['␛', ''], ['b', 'ansi-fg-9 ansi-bg-12'],
  ]);
  assert.equal(fromMarkup(null), '');
});
