// What the browser tests stand on: a real node, a real Chromium, and waits with a deadline.
//
// SWITCHBOARD_BIN  the program (default target/debug/switchboard)
// BROWSER_MODULES  the folder with node_modules (scripts/lib/tools.sh makes it)
// CHROMIUM         the browser (default /usr/bin/chromium)
// SCREENSHOTS      a folder for pictures (default: none are taken)
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const modules = process.env.BROWSER_MODULES;
if (!modules) throw new Error('BROWSER_MODULES is not set: run scripts/test, or read how it sets that');
const require = createRequire(path.join(modules, 'x.js'));
const { chromium } = require('playwright-core');
const axeSource = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

export const program = process.env.SWITCHBOARD_BIN ?? path.join(root, 'target/debug/switchboard');
const screenshots = process.env.SCREENSHOTS;
export const PASSWORD = 'correct horse battery staple';
export const PATIENCE = 20_000;

// The program's environment, without anything of ours.
function environment(more = {}) {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('SWITCHBOARD_'));
  return { ...Object.fromEntries(inherited), ...more };
}

/** Looks until `look` gives something true, at most `limit` ms; gives that. A look that throws says no. */
export async function eventually(what, look, limit = PATIENCE) {
  const end = Date.now() + limit;
  let last;
  for (;;) {
    try {
      const found = await look();
      if (found) return found;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`${what}: not within ${limit} ms${last ? `; last: ${last.message}` : ''}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** One process of ours. */
class Node {
  constructor(stage, role, settings) {
    Object.assign(this, { stage, role, settings, output: '', log: '', url: undefined });
  }

  async start() {
    const listen = this.url ? this.url.slice('http://'.length) : '127.0.0.1:0';
    const args = ['--data', this.stage.data, '--listen', listen, '--config', this.stage.config, 'run', '--role', this.role];
    this.output = '';
    this.process = spawn(program, args, { env: environment(this.settings), stdio: ['ignore', 'pipe', 'pipe'] });
    this.process.stdout.on('data', (part) => { this.output += part; });
    this.process.stderr.on('data', (part) => { this.log += part; });
    this.ended = new Promise((resolve) => this.process.once('exit', resolve));
    await eventually(`a ${this.role} node`, () => {
      if (this.process.exitCode !== null) throw new Error(`it ended: ${this.log}`);
      return /^Switchboard .*$/m.test(this.output);
    });
    if (this.role !== 'service') {
      this.url = /listens on (http:\/\/\S+)/.exec(this.output)[1];
      await eventually('a ready node', async () => (await fetch(`${this.url}/readyz`)).ok);
    }
    return this;
  }

  async kill() {
    this.process.kill('SIGKILL');
    await this.ended;
  }

  async setupLink() {
    return eventually('a set-up link', () => /First administrator: (\S+)/.exec(this.output)?.[1]);
  }
}

/** A test file's place: a data directory, jobs, its nodes, one browser. */
export class Stage {
  constructor(jobs) {
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sb-browser-'));
    this.data = path.join(this.folder, 'data');
    this.config = path.join(this.folder, 'switchboard.toml');
    this.nodes = [];
    const writer = path.join(root, 'tests/fixtures/e2e/writer.sh');
    fs.writeFileSync(this.config, jobs({ writer, folder: this.folder }));
  }

  async node(role = 'all', settings = {}) {
    const node = new Node(this, role, settings);
    this.nodes.push(node);
    await node.start();
    if (node.url) this.url ??= node.url;
    return node;
  }

  command(...args) {
    const done = spawnSync(program, ['--data', this.data, ...args], { env: environment(), encoding: 'utf8', timeout: PATIENCE });
    assert.equal(done.status, 0, `${args.join(' ')}: ${done.stderr}`);
    return done.stdout.trim();
  }

  /** A script's requests, with a token of its own. */
  async robot() {
    const token = (this.token ??= this.command('user', 'add', 'robot', '--role', 'service_admin', '--token'));
    const ask = async (method, where, body) => {
      const headers = { 'x-api-key': token, ...(body ? { 'content-type': 'application/json' } : {}) };
      const answer = await fetch(this.url + where, { method, headers, body: body && JSON.stringify(body) });
      assert.ok(answer.ok, `${where}: ${answer.status} ${await (answer.ok ? '' : answer.text())}`);
      return answer.json();
    };
    const get = (where) => ask('GET', where);
    return {
      get,
      act: (name, verb) => ask('POST', `/api/dispatchers/${name}:${verb}`),
      live: () => eventually('a live link', async () => {
        const status = await get('/api/status');
        return status.messenger.state === 'live' && status.dispatchers.length > 0;
      }),
      state: (name, state) => eventually(`${name} ${state}`, async () => {
        const found = (await get('/api/status')).dispatchers.find((dispatcher) => dispatcher.name === name);
        return found?.state === state && found;
      }),
      executions: async (name) => (await get(`/api/executions?dispatcher=${name}`)).executions,
      async finished(name) {
        const before = (await this.executions(name)).filter((run) => run.outcome).length;
        await this.act(name, 'run');
        return eventually(`the end of ${name}`, async () => {
          const ended = (await this.executions(name)).filter((run) => run.outcome);
          return ended.length > before && ended[0];
        });
      },
    };
  }

  async browser() {
    this.chromium ??= await chromium.launch({
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
    });
    return this.chromium;
  }

  /** A new browser window; what its pages complain about is in `window.complaints`. */
  async window(options = {}) {
    const context = await (await this.browser()).newContext({ viewport: { width: 1280, height: 900 }, ...options });
    context.setDefaultTimeout(PATIENCE);
    context.complaints = [];
    context.on('weberror', (error) => context.complaints.push(String(error.error())));
    context.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) context.complaints.push(message.text());
    });
    return context;
  }

  /** Comes through the set-up link; gives the session for other windows. */
  async setUp(node) {
    const context = await this.window();
    const page = await context.newPage();
    await page.goto(await node.setupLink());
    await page.fill('input[name=name]', 'root');
    for (const field of await page.locator('input[type=password]').all()) await field.fill(PASSWORD);
    await Promise.all([page.waitForURL('**/status'), page.click('main button[type=submit], main form button:not([type=button])')]);
    assert.deepEqual(context.complaints, []);
    this.session = await context.storageState();
    await context.close();
    return this.session;
  }

  /** A page of a signed-in window. */
  async page(where = '/status', options = {}) {
    const context = await this.window({ storageState: this.session, ...options });
    const page = await context.newPage();
    await page.goto(this.url + where);
    return page;
  }

  async close() {
    await this.chromium?.close();
    for (const node of this.nodes) {
      node.process.kill('SIGKILL');
      await node.ended;
    }
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Waits until the page's scripts work and its pill says that the link is live. */
export async function alive(page) {
  await page.locator('html.scripted').waitFor({ state: 'attached' });
  await eventually('a live page', () => page.evaluate(() => document.querySelector('#log-lines.taken') !== null));
}

/** Saves a picture, if somebody wants them. */
export async function picture(page, name) {
  if (!screenshots) return;
  fs.mkdirSync(screenshots, { recursive: true });
  await page.screenshot({ path: path.join(screenshots, `${name}.png`), fullPage: true });
}

/** What axe-core finds wrong with a page. */
export async function violations(page) {
  // through the debugger, not as a script of the page: its content security policy stays in force
  await page.evaluate(axeSource);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  assert.ok(found.passes.length > 5, 'axe-core looked at nothing');
  return found.violations.map((rule) => `${rule.id}: ${rule.help}: ${rule.nodes.map((node) => node.target.join(' ')).slice(0, 5).join(' | ')}`);
}

/** The value below which `percent` of these lie. */
export function percentile(values, percent) {
  assert.ok(values.length > 0, 'nothing was measured');
  return [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor((values.length * percent) / 100))];
}

/** `[[job]]` of a TOML file. */
export function job(name, command, more = 'schedule = "manual"') {
  return `[[job]]\nname = "${name}"\ncommand = ${JSON.stringify(command)}\n${more}\n\n`;
}
