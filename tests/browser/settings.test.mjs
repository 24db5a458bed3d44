// Advanced Settings: several changed at once, reviewed, saved; somebody faster; a file taken in; how it stands arrives by itself.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Stage, eventually, picture, violations } from './support.mjs';

const LOOKS = ['light', 'dark'].flatMap((colorScheme) => [
  ['desktop', { colorScheme, viewport: { width: 1360, height: 900 } }],
  ['phone', { colorScheme, viewport: { width: 390, height: 844 } }],
].map(([size, options]) => [`${colorScheme}-${size}`, options]));

let stage;

before(async () => {
  stage = new Stage(() => '');
  const node = await stage.node('all', { SWITCHBOARD_SETTING_SERVICE_STOPPATIENCE: '7s' });
  await stage.setUp(node);
  await (await stage.robot()).live();
  stage.command('settings', 'set', 'Service.StopPatience', '9s');
});

after(() => stage.close());

const field = (page, name) => page.locator(`[name="${name}"]:not([type=hidden])`);
const press = (page, step) => Promise.all([page.waitForNavigation(), page.click(`button[name=step][value=${step}]`)]);
const saved = (name) => stage.command('settings', 'get', name).trim();

/** Fills the form of the list and asks for the review. */
async function review(page, values) {
  await page.goto(`${stage.url}/settings`);
  for (const [name, value] of Object.entries(values)) await field(page, name).fill(value);
  await press(page, 'review');
}

async function sound(page, what) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  const wrong = await violations(page);
  await picture(page, what);
  assert.deepEqual([...wrong, ...(wide > 0 ? [`scrolls sideways by ${wide} px`] : [])], [], what);
}

for (const [look, options] of LOOKS) {
  test(`review, conflict and import are accessible and fit: ${look}`, async () => {
    const page = await stage.page('/about', options);
    await page.goto(`${stage.url}/settings/Service.StopPatience`);
    assert.match(await page.locator('.sources').innerText(), /environment[^]*7s[^]*in force[^]*database[^]*9s[^]*overruled by environment/);
    await sound(page, `setting-sources-${look}`);
    await page.goto(`${stage.url}/settings`);
    await sound(page, `settings-${look}`);
    await page.goto(`${stage.url}/settings/Service.MessengerKey`);
    await sound(page, `setting-key-${look}`);
    await review(page, { 'Web.SessionIdle': '1h', 'Retention.LogAge': '2d', 'Log.RingLines': '30000' });
    assert.equal(await page.locator('.caution').count(), 2);
    await sound(page, `settings-review-${look}`);
    await press(page, 'edit');
    assert.equal(await field(page, 'Retention.LogAge').inputValue(), '2d', 'what was typed is still there');
    stage.command('settings', 'set', 'Retention.LogAge', '3d');
    await press(page, 'review');
    assert.match(await page.locator('h1').innerText(), /faster/);
    await sound(page, `settings-conflict-${look}`);
    await page.goto(`${stage.url}/settings/import`);
    await page.fill('#import-text', 'No.Such = 1\nLog.RingLines = "many"\n');
    await Promise.all([page.waitForNavigation(), page.click('main form.card button.primary')]);
    assert.match(await page.locator('#import-faults').innerText(), /line 1[^]*line 2/);
    await sound(page, `settings-import-${look}`);
    stage.command('settings', 'clear', 'Retention.LogAge');
    await page.context().close();
  });
}

test('by keyboard: two are changed, one was changed meanwhile; the choice is kept, and all of it is saved', async () => {
  const page = await stage.page('/settings');
  await field(page, 'Service.PollInterval').fill('8s');
  await field(page, 'Diagnostics.Kept').fill('500');
  stage.command('settings', 'set', 'Service.PollInterval', '9s');
  await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')]);
  assert.match(await page.locator('h1').innerText(), /faster/);
  const theirs = page.locator('input[type=radio][value=theirs]');
  await theirs.focus();
  await page.keyboard.press('ArrowDown');
  assert.ok(await page.locator('input[type=radio][value=mine]').isChecked());
  await page.keyboard.press('ArrowUp');
  assert.ok(await theirs.isChecked());
  await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')]);
  const text = await page.locator('main table').innerText();
  assert.ok(text.includes('500') && !text.includes('8s'), text);
  await press(page, 'save');
  assert.match(await page.locator('#say').innerText(), /saved/i);
  assert.deepEqual([saved('Service.PollInterval'), saved('Diagnostics.Kept')], ['9s', '500']);
  await page.context().close();
});

test('without scripts several are reviewed and saved', async () => {
  const page = await (await stage.window({ javaScriptEnabled: false, storageState: stage.session })).newPage();
  await review(page, { 'Log.RingLines': '777', 'Web.SessionAge': '8d' });
  assert.equal(await page.locator('ins').count(), 2);
  await press(page, 'save');
  assert.deepEqual([saved('Log.RingLines'), saved('Web.SessionAge')], ['777', '8d']);
  await page.context().close();
});

test('a file is chosen, shown as differences, and taken in', async () => {
  const page = await stage.page('/settings/import');
  await page.setInputFiles('#import-file', { name: 's.toml', mimeType: 'text/plain', buffer: Buffer.from('[settings]\nRetention.LogSize = "300 MiB"\nService.MessengerKey = "(secret)"\n') });
  await eventually('the text of the file', async () => (await page.inputValue('#import-text')).includes('300 MiB'));
  await Promise.all([page.waitForNavigation(), page.click('main form.card button.primary')]);
  assert.match(await page.locator('ins').innerText(), /300 MiB/);
  await press(page, 'save');
  assert.equal(saved('Retention.LogSize'), '300 MiB');
  await page.context().close();
});

test('a link to one setting is copied, and an open page shows by itself what has come into force', async () => {
  const page = await stage.page('/settings/Service.HeartbeatInterval');
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await page.click('[data-copy-link]');
  await eventually('the word that it was copied', async () => /Copied/.test(await page.locator('#say').innerText()));
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `${stage.url}/settings/Service.HeartbeatInterval`);
  stage.command('settings', 'set', 'Service.HeartbeatInterval', '4s');
  await eventually('the value in force', async () => /4s/.test(await page.locator('#on-nodes').innerText()), 40_000);
  await page.context().close();
});
