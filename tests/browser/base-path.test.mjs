// Everything under a base path: no address a browser asks for leaves it, with scripts and without; actions and the live page work.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { PASSWORD, Stage, alive, job } from './support.mjs';

const BASE = '/tools/switchboard';
let stage;
let node;

before(async () => {
  stage = new Stage(() => job('hello', ['echo', 'hello from the job']));
  node = await stage.node('all', { SWITCHBOARD_BASE_PATH: BASE });
  assert.ok(node.url.endsWith(BASE), node.url);
  await stage.setUp(node);
  await (await stage.robot()).live();
});

after(() => stage.close());

/** Notes every address of ours that a page asks for outside of the base path. */
function watched(page) {
  const outside = [];
  const look = (address) => {
    const url = new URL(address);
    if (url.host === new URL(node.url).host && !url.pathname.startsWith(`${BASE}/`)) outside.push(address);
  };
  page.on('request', (request) => look(request.url()));
  page.on('websocket', (socket) => look(socket.url()));
  return outside;
}

test('a live page, its menu and its actions stay under the base path', async () => {
  const page = await stage.page('/status');
  const outside = watched(page);
  await page.reload();
  await alive(page);
  await page.click('#d-hello button[formaction$="/run"]');
  await page.waitForFunction(() => document.querySelector('#log-lines, #log ol')?.textContent.includes('hello from the job'));
  for (const text of ['Executions', 'Settings', 'Diagnostics', 'Status']) await page.click(`nav.menu a:has-text("${text}")`);
  await page.click('#d-hello th a');
  assert.ok(page.url().startsWith(`${node.url}/dispatchers/hello`), page.url());
  await page.locator('main[data-connection=open]').waitFor();
  assert.deepEqual(outside, []);
  await page.context().close();
});

test('without scripts it is the same', async () => {
  const page = await stage.page('/status', { javaScriptEnabled: false });
  const outside = watched(page);
  await page.click('#d-hello button[formaction$="/run"]');
  assert.ok(page.url().startsWith(`${node.url}/status?`) && page.url().includes('done='), page.url());
  await page.click('header form button');
  assert.ok(page.url().startsWith(`${node.url}/sign-in?done=signed-out`), page.url());
  await page.goto(`${node.url}/executions`);
  await page.fill('[name=name]', 'root');
  await page.fill('[name=password]', PASSWORD);
  await page.click('main button');
  assert.ok(page.url().startsWith(`${node.url}/executions`), page.url());
  assert.deepEqual(outside, []);
  await page.context().close();
});
