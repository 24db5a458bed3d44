// Nodes, their warnings and the doctor, alive: a service node goes and comes back while pages are open, and nothing is loaded again.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Stage, eventually, job, picture, violations } from './support.mjs';

const SIZES = { 1360: { width: 1360, height: 900 }, 1024: { width: 1024, height: 768 }, 390: { width: 390, height: 844 } };

let stage;
let service;

before(async () => {
  stage = new Stage(() => job('hello', ['echo', 'hello']));
  service = await stage.node('service', { SWITCHBOARD_SETTING_SERVICE_HEARTBEATINTERVAL: '1s', SWITCHBOARD_SETTING_SERVICE_STALETIME: '3s' });
  stage.command('settings', 'set', 'Service.HeartbeatInterval', '1s');
  stage.command('settings', 'set', 'Service.StaleTime', '3s');
  const web = await stage.node('web');
  await stage.setUp(web);
  await (await stage.robot()).live();
});

after(() => stage.close());

/** Looks at a page as it stands, in both schemes and sizes. */
async function inspect(page, name) {
  const wrong = [];
  for (const colorScheme of ['light', 'dark']) {
    for (const [width, viewport] of Object.entries(SIZES)) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize(viewport);
      for (const violation of await violations(page)) wrong.push(`${name}, ${colorScheme}, ${width}: ${violation}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (wide > 0) wrong.push(`${name}, ${width}: scrolls sideways by ${wide} px`);
      await picture(page, `${name}-${width}-${colorScheme}`);
    }
  }
  await page.setViewportSize(SIZES[1360]);
  assert.deepEqual(wrong, []);
}

test('the doctor says how far it came, and forgets the key', async () => {
  const page = await stage.page('/diagnostics');
  await page.fill('#doctor-endpoint', 'tcp://127.0.0.1:1');
  await page.fill('#doctor-key', Buffer.alloc(32, 7).toString('base64'));
  await page.click('#doctor button');
  await page.locator('#doctor .found').waitFor();
  assert.match(await page.locator('#doctor .found').innerText(), /no link[\s\S]*Connect[\s\S]*failed after/);
  assert.equal(await page.inputValue('#doctor-key'), '');
  await inspect(page, 'diagnostics-doctor');
  await page.fill('#doctor-endpoint', '');
  await page.click('#doctor button');
  await eventually('a link', async () => /would have a link/.test(await page.locator('#doctor .found').innerText()));
  await inspect(page, 'diagnostics-doctor-well');
  assert.deepEqual(page.context().complaints, []);
  await page.context().close();
});

test('pages follow: a service node that is gone is warned of, removed, and back', async () => {
  const page = await stage.page('/nodes');
  const elsewhere = await stage.page('/about');
  await eventually('a primary', async () => /term \d/.test(await page.locator('#nodes-now').innerText()));
  await inspect(page, 'nodes');
  await page.locator('tr:has(.badge-live) summary', { hasText: 'Change' }).click();
  await page.fill('tr:has(.badge-live) input[name=address]', '*');
  await page.click('tr:has(.badge-live) form button');
  await page.locator('input[aria-invalid]').waitFor();
  assert.match(await page.locator('[id^=address-fault]').innerText(), /every address/);
  await inspect(page, 'nodes-address');
  await page.goto(`${stage.url}/nodes`);

  await service.kill();
  const warned = (where) => eventually('the warnings', async () => {
    const text = await where.locator('#alerts').innerText();
    return /can't be reached/.test(text) && /No service node is primary/.test(text);
  });
  await Promise.all([warned(page), warned(elsewhere)]);
  await eventually('a node that is gone', async () => /\bgone\b/.test(await page.locator('table.nodes').innerText()));
  await inspect(page, 'nodes-unled');
  await elsewhere.getByRole('button', { name: 'Reconnect' }).click();
  await eventually('an answer', async () => (await elsewhere.locator('#say').innerText()) !== '');

  await page.locator('summary', { hasText: 'Remove' }).click();
  await page.getByRole('button', { name: 'Yes, remove it' }).click();
  await page.waitForURL('**/nodes?done=node-removed');
  assert.equal(await page.locator('.nodes tbody tr').count(), 1);
  await service.start();
  await eventually('the node is back', async () => (await page.locator('.nodes tbody tr').count()) === 2);
  for (const where of [page, elsewhere]) {
    await eventually('no warning', async () => (await where.locator('#alerts').innerText()).trim() === '');
  }
  for (const where of [page, elsewhere]) await where.context().close();
});

test('a page whose web node gets no answer from the database says so, is grey, and mends itself', async () => {
  const [page, status] = [await stage.page('/nodes'), await stage.page('/status')];
  const heartbeat = () => page.locator('#node-1 time.ago').first().getAttribute('datetime');
  const before = await heartbeat();
  await eventually('a younger heartbeat', async () => (await heartbeat()) !== before);

  const away = '<div class="problem"><h1>The database can\'t be reached</h1></div>';
  const asked = (url) => ['/alerts', '/nodes'].includes(url.pathname);
  for (const where of [page, status]) {
    await where.route(asked, (route) => route.fulfill({ status: 503, contentType: 'text/html', body: away }));
    await eventually('a warning', async () => /database can't be reached since \S+ \S+: what is shown may be old, and nothing begins/
      .test(await where.locator('#alerts').innerText()));
    await inspect(where, where === page ? 'nodes-database-away' : 'status-database-away');
  }
  assert.ok(await page.locator('#nodes-now.old').count());
  for (const where of [page, status]) {
    await where.unroute(asked);
    await eventually('no warning', async () => (await where.locator('#alerts').innerText()).trim() === '');
    await eventually('no part is old', async () => (await where.locator('.old').count()) === 0);
    await where.context().close();
  }
});

test('a page whose connection is up says that a proxy refuses all else', async () => {
  const status = await stage.page('/status');
  await status.waitForSelector('main[data-connection=open]');
  const asked = (url) => url.pathname === '/alerts';
  const refusal = '<html><body><h1>503 Service Unavailable</h1>No server is available to handle this request.</body></html>';
  await status.route(asked, (route) => route.fulfill({ status: 503, contentType: 'text/html', body: refusal }));
  await eventually('a warning', async () => /what stands before it, answers with status 503 since \S+ \S+: what is shown may be old\. It is tried again/
    .test(await status.locator('#alerts').innerText()));
  assert.ok(await status.locator('#alerts.old').count(), 'what is old is grey');
  assert.equal(await status.getAttribute('main', 'data-connection'), 'open');
  await inspect(status, 'status-proxy-refuses');
  await status.unroute(asked);
  await eventually('no warning', async () => (await status.locator('#alerts').innerText()).trim() === '');
  await status.context().close();
});

test('on a phone what a button asks back stays on the page', async () => {
  const page = await stage.page('/nodes');
  await page.setViewportSize(SIZES[390]);
  await page.locator('tr:has(.badge-live) summary', { hasText: 'Change' }).click();
  const card = await page.locator('details[open] > .card').boundingBox();
  assert.ok(card.x >= 0 && card.x + card.width <= 390, JSON.stringify(card));
  await page.context().close();
});

test('without scripts the warning, the actions and their confirmation are there', async () => {
  const page = await stage.page('/nodes', { javaScriptEnabled: false });
  await page.locator('summary', { hasText: 'Change' }).first().click();
  await page.locator('input[name=address]').first().fill('127.0.0.1');
  await page.getByRole('button', { name: 'Save the address' }).first().click();
  await page.waitForURL('**/nodes?done=address');
  assert.match(await page.locator('#nodes-now').innerText(), /set here/);
  await page.context().close();
});
