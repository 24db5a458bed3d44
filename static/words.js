// Every text the scripts show, in English; another language is another file like this one.

const plural = (count, one, many) => `${count.toLocaleString('en')} ${count === 1 ? one : many}`;

/** A sentence of the web node, to be put into one of ours. */
const unended = (text) => text.replace(/\.$/, '');

export const words = {
  // times
  justNow: 'just now',
  now: 'now',
  inAMoment: 'in a moment',
  ago: (text) => `${text} ago`,
  in: (text) => `in ${text}`,
  units: { d: 'd', h: 'h', min: 'min', s: 's' },

  // link
  lastHeard: '(as last heard)',
  stale: (seconds) => `Nothing came for ${seconds} s: what you see may be old. Connecting again…`,
  waiting: (seconds) => `The connection to this web node is lost. Next attempt in ${seconds} s.`,
  connecting: 'The connection to this web node is lost. Connecting…',
  notFollowed: (text, seconds) => `The web node can't keep this page up to date now: ${unended(text)}. ${seconds > 0 ? `Next attempt in ${seconds} s.` : 'Trying again…'}`,
  offline: 'This device is offline. The page goes on by itself when the network is back.',
  draining: 'This web node is being stopped. The page connects again by itself.',
  polling: 'Live by long poll: a proxy in between lets no WebSocket pass (check its Upgrade headers).',
  signedOut: 'Your session has ended.',
  signIn: 'Sign in again',
  newer: 'This node was updated.',
  reload: 'Load the page again',
  refused: (text) => `The web node ended the connection: ${unended(text)}.`,
  notFresh: (title, status) => [
    `${title ?? (status ? `The web node, or what stands before it, answers with status ${status}` : 'The web node gives no answer')} since`,
    title && status === 503 ? ': what is shown may be old, and nothing begins. It goes on by itself.' : ': what is shown may be old. It is tried again.',
  ],
  titles: { failing: (n) => `(${n} failing) `, busy: (n) => `(${n} running) `, gone: () => '(service away) ', ok: () => '' },

  // actions
  sending: 'Sending…',
  noAnswer: 'The web node did not answer; nothing is known of what became of it. Try again.',
  failed: (status) => `This did not work (status ${status}).`,
  yes: 'Yes, do it',
  no: 'No, leave it',

  copiedIt: 'Copied.',

  // log
  pause: 'Pause',
  follow: 'Follow',
  nothingWaits: '',
  waitingLines: (lines, errors) => `${plural(lines, 'new line', 'new lines')}${errors ? ` · ${plural(errors, 'error', 'errors')}` : ''} waiting`,
  gap: (count, known, narrow) =>
    `${plural(count, 'line', 'lines')} can't be had any more (${known})${narrow ? '; whether they would pass the filter is not known' : ''}`,
  unknownLevel: (count) => `${count.toLocaleString('en')} of a level that nobody knows`,
  skipped: (count, known) => `${plural(count, 'line', 'lines')} came while you paused and did not fit into this tab${known ? ` (${known})` : ''}; the download has them`,
  turn: (node, before, primary) =>
    primary ? `${node} is the primary now (was ${before})` : `lines of ${node} from here on (before: ${before})`,
  restart: (from, to, at) => `the service was restarted${at ? ` ${at}` : ''}${from && to ? ` (version ${from} → ${to})` : to ? ` (version ${to})` : ''}`,
  levels: ['trace', 'debug', 'info', 'warn', 'error'],
  footer: (shown, hidden, lost, last) =>
    `${plural(shown, 'line', 'lines')} here · ${hidden.toLocaleString('en')} hidden by the filter · ${lost.toLocaleString('en')} lost · ${last}`,
  lastLine: (text) => `last line ${text}`,
  noLine: 'no line yet',
  empty: 'No lines yet. They appear here the moment they are written.',
  emptyFiltered: 'No line passes this filter.',
  clearFilter: 'Clear the filter',
  gone: (line) => `Line ${line} can't be had any more; these are the lines around it that are left.`,
  copied: (count) => `${plural(count, 'line', 'lines')} copied`,
  notCopied: 'The browser did not let the page copy.',
  found: (now, all) => (all ? `${now} of ${all}` : 'nothing found'),
  find: 'Find in these lines',
  allSources: 'all sources',
  announced: (lines, errors) => `${plural(lines, 'new line', 'new lines')}${errors ? `, ${plural(errors, 'error', 'errors')}` : ''}`,
  linkTo: 'Link to this line',
  onlySource: (source) => `Only lines of ${source}`,
  run: (id) => `run ${id}`,
  removeRun: 'Show all runs',
  older: 'stderr',
  help: 'Keys',
  close: 'Close',
  keys: [
    ['j  k', 'next line, line before'],
    ['G  End', 'follow the newest line'],
    ['Home', 'the oldest line here'],
    ['p', 'pause or follow'],
    ['f', 'filter by text (on the server)'],
    ['/', 'find in these lines'],
    ['n  N', 'next hit, hit before'],
    ['Enter', 'link to the line'],
    ['Ctrl A, Ctrl C', 'choose all lines, copy the chosen ones'],
    ['Esc', 'choose nothing'],
    ['?', 'these keys'],
  ],
};
