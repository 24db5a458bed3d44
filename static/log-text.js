// The text of a line: ANSI colours become classes, everything that could deceive becomes visible. Makes no HTML.

// control characters but tab, and those that turn the order of letters round or can't be seen
const ODD = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;
// colours; any other sequence is shown, not obeyed and not left out
// eslint-disable-next-line no-control-regex
const ANSI = /\u001b\[([0-9;:]{0,63})m/g;

/** One odd character, made visible. */
export function visibleChar(c) {
  const code = c.codePointAt(0);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return '\u2421';
  return `⟦U+${code.toString(16).toUpperCase().padStart(4, '0')}⟧`;
}

/** The text without colours, odd characters made visible: for copies and for finding. */
export function plain(text) {
  return text.replace(ANSI, '').replace(ODD, visibleChar);
}

function colour(n) {
  if (n < 16) return n;
  if (n >= 232) return n < 240 ? 8 : n < 250 ? 7 : 15; // greys
  const v = n - 16; // the nearest of the eight bright and dark ones: a page keeps its contrast
  const [r, g, b] = [Math.floor(v / 36), Math.floor(v / 6) % 6, v % 6];
  return rgb(r * 51, g * 51, b * 51);
}

function rgb(r, g, b) {
  const most = Math.max(r, g, b);
  if (most < 50) return 0;
  const half = most / 2;
  return (r > half ? 1 : 0) + (g > half ? 2 : 0) + (b > half ? 4 : 0) + (most > 170 ? 8 : 0);
}

function apply(style, parameters) {
  const codes = parameters === '' ? [0] : parameters.split(/[;:]/).map(Number);
  for (let i = 0; i < codes.length; i += 1) {
    const code = codes[i];
    if (code === 0) { for (const key of Object.keys(style)) delete style[key]; }
    else if (code === 1) style.bold = 'ansi-bold';
    else if (code === 2) style.dim = 'ansi-dim';
    else if (code === 3) style.italic = 'ansi-italic';
    else if (code === 4) style.underline = 'ansi-underline';
    else if (code === 22) { delete style.bold; delete style.dim; }
    else if (code === 23) delete style.italic;
    else if (code === 24) delete style.underline;
    else if (code >= 30 && code <= 37) style.fg = `ansi-fg-${code - 30}`;
    else if (code >= 90 && code <= 97) style.fg = `ansi-fg-${code - 82}`;
    else if (code >= 40 && code <= 47) style.bg = `ansi-bg-${code - 40}`;
    else if (code >= 100 && code <= 107) style.bg = `ansi-bg-${code - 92}`;
    else if (code === 39) delete style.fg;
    else if (code === 49) delete style.bg;
    else if (code === 38 || code === 48) {
      const key = code === 38 ? 'fg' : 'bg';
      let n = null;
      if (codes[i + 1] === 5) { n = colour(codes[i + 2] & 255); i += 2; }
      else if (codes[i + 1] === 2) { n = rgb(codes[i + 2] | 0, codes[i + 3] | 0, codes[i + 4] | 0); i += 4; }
      else break;
      style[key] = `ansi-${key}-${n}`;
    }
  }
}

/**
 * The pieces of a text: `{text, classes}`, odd characters as pieces of their own with class `ctrl`.
 * Concatenated they are `plain(text)`.
 */
export function pieces(text) {
  const out = [];
  const style = {};
  const push = (part) => {
    const classes = Object.values(style).join(' ');
    let from = 0;
    for (const odd of part.matchAll(ODD)) {
      if (odd.index > from) out.push({ text: part.slice(from, odd.index), classes });
      out.push({ text: visibleChar(odd[0]), classes: classes ? `${classes} ctrl` : 'ctrl' });
      from = odd.index + odd[0].length;
    }
    if (from < part.length) out.push({ text: part.slice(from), classes });
  };
  let from = 0;
  for (const code of text.matchAll(ANSI)) {
    if (code.index > from) push(text.slice(from, code.index));
    apply(style, code[1]);
    from = code.index + code[0].length;
  }
  if (from < text.length) push(text.slice(from));
  return out;
}

/** The code that gives a text this class. */
function code(name) {
  const [, ground, n] = /^ansi-(fg|bg)-(\d+)$/.exec(name) ?? [];
  if (ground) return Number(n) + (ground === 'bg' ? 10 : 0) + (n < 8 ? 30 : 82);
  return { 'ansi-bold': 1, 'ansi-dim': 2, 'ansi-italic': 3, 'ansi-underline': 4 }[name];
}

/** A text whose `pieces` look as this element does, which the server rendered: its colours become codes again. */
export function fromMarkup(element) {
  let text = '';
  for (const node of element?.childNodes ?? []) {
    const codes = [...(node.classList ?? [])].map(code).filter(Boolean);
    text += codes.length ? `\u001b[${codes.join(';')}m${node.textContent}\u001b[0m` : node.textContent;
  }
  return text;
}

/** Where a pattern hits in a plain text: `[[from, to], …]`, at most 100; empty hits don't count. */
export function hits(text, pattern) {
  const out = [];
  if (!pattern) return out;
  for (const hit of text.matchAll(pattern)) {
    if (hit[0]) out.push([hit.index, hit.index + hit[0].length]);
    if (out.length === 100) break;
  }
  return out;
}

/** Cuts pieces at hits: those inside get `mark: true`. */
export function marked(parts, ranges) {
  if (!ranges.length) return parts;
  const out = [];
  let at = 0;
  let next = 0;
  for (const part of parts) {
    let from = 0;
    while (from < part.text.length) {
      while (next < ranges.length && ranges[next][1] <= at + from) next += 1;
      const range = ranges[next];
      const inside = range && range[0] <= at + from;
      const edge = range ? (inside ? range[1] : range[0]) : Infinity;
      const to = Math.min(part.text.length, edge - at);
      out.push({ text: part.text.slice(from, to), classes: part.classes, mark: Boolean(inside) });
      from = to;
    }
    at += part.text.length;
  }
  return out;
}

/** A search as the server understands it: a regular expression, capitals meaning that case matters; null if it is none here. */
export function pattern(text, literal = false) {
  if (!text) return null;
  const flags = /\p{Lu}/u.test(text) ? 'gu' : 'giu';
  try {
    return new RegExp(literal ? text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&') : text, flags);
  } catch {
    if (literal) return null;
    return pattern(text, true);
  }
}
