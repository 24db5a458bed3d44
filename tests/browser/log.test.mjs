// The log viewer: pause and follow, filters, gaps, links to lines, copies, and what a tab may cost.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, test } from 'node:test';

import { Stage, alive, eventually, job, picture } from './support.mjs';

const stage = new Stage(() => [
  job('chatty', ['bash', '-c', 'for i in $(seq 1 30); do echo "chatty $i"; done; echo "chatty oops" >&2']),
  job('failing', ['bash', '-c', 'exit 3']),
  job('flood', ['bash', '-c', 'for i in $(seq 1 60000); do echo "flood $i"; done']),
  job('odd', ['bash', '-c', String.raw`printf '\033[1;31mred\033[0m \033[2Jclear \033]0;t\007 \u202ebidi\u202c <script>alert(1)</script>\n'`]),
].join(''));
let node;
let robot;

before(async () => {
  node = await stage.node();
  await stage.setUp(node);
  robot = await stage.robot();
  await robot.live();
});

after(() => stage.close());

const rows = (page, selector = 'li.line') => page.locator(`#log-lines > ${selector}`);

/** Everything the tab holds, whether it is painted or not. */
const waitingText = (page) => page.locator('#log-waiting').textContent();

test('pause is absolute and counts lines and errors; follow shows them', async () => {
  const page = await stage.page();
  await alive(page);
  await page.click('#log-pause');
  const shown = await rows(page).allTextContents();
  await robot.finished('chatty');
  await robot.finished('failing');
  await eventually('what waits, with the error', async () => /\d+ new lines · \d+ errors? waiting/.test(await waitingText(page)));
  assert.deepEqual(await rows(page).allTextContents(), shown, 'nothing moves');
  await picture(page, 'log-paused');
  await page.click('#log-pause');
  await eventually('the newest line', async () => (await rows(page).last().textContent()).includes('failing'));
  assert.equal(await waitingText(page), '');
  await page.context().close();
});

test('a search that is none is said beside its field, and what was followed goes on', async () => {
  const page = await stage.page();
  await alive(page);
  await page.fill('#log-q', 'a(b');
  const fault = page.locator('#log-fault');
  await eventually('the fault', async () => (await fault.isVisible()) && (await fault.textContent()).includes('unclosed'));
  assert.equal(await page.getAttribute('#log-q', 'aria-invalid'), 'true');
  assert.equal(await page.getAttribute('#log-q', 'aria-describedby'), 'log-fault');
  const [field, said] = [await page.locator('#log-q').boundingBox(), await fault.boundingBox()];
  assert.ok(said.y - (field.y + field.height) < 60, `the message stands ${said.y - field.y} px below`);
  await picture(page, 'log-bad-search');
  await robot.finished('chatty');
  await eventually('lines still come', async () => (await rows(page).allTextContents()).some((text) => text.includes('chatty 30')));
  await page.fill('#log-q', 'chatty (1|2)$');
  await eventually('the search', async () => {
    const texts = await rows(page).locator('.text').allTextContents();
    return texts.length > 0 && texts.every((text) => /chatty [12]$/.test(text));
  });
  assert.equal(await fault.isVisible(), false);
  assert.equal(await page.getAttribute('#log-q', 'aria-invalid'), null);
  await page.context().close();
});

test('a page that is opened with a search that is none says so, and follows without it', async () => {
  await robot.finished('chatty');
  const page = await stage.page('/status?source=chatty&q=a(b');
  await alive(page);
  const fault = page.locator('#log-fault');
  const newest = () => page.evaluate(() => Number([...document.querySelectorAll('#log-lines > li[data-seq]')].at(-1)?.dataset.seq ?? 0));
  const before = await newest();
  assert.ok(before > 0, 'lines are there');
  await robot.finished('failing');
  await robot.finished('chatty');
  await eventually('lines that come', async () => (await newest()) > before);
  assert.match(await fault.textContent(), /left out until it is corrected: .*unclosed/);
  assert.equal(await page.getAttribute('#log-q', 'aria-invalid'), 'true');
  assert.ok(!(await rows(page).allTextContents()).some((text) => text.includes('failing')), 'the rest of the filter is in force');
  await picture(page, 'log-opened-with-bad-search');
  await page.fill('#log-q', 'chatty 7$');
  await eventually('only lines that match', async () => {
    const shown = await rows(page).allTextContents();
    return shown.length > 0 && shown.every((text) => text.endsWith('chatty 7'));
  });
  assert.equal(await fault.isVisible(), false);
  await page.context().close();
});

test('after a good filter and a bad one in quick succession the good one is in force', async () => {
  const page = await stage.page();
  await alive(page);
  await robot.finished('chatty');
  await eventually('lines', async () => (await rows(page).count()) > 0);
  await page.evaluate(() => {
    const [level, q] = ['log-level', 'log-q'].map((id) => document.getElementById(id));
    level.value = 'error';
    level.dispatchEvent(new Event('change', { bubbles: true }));
    q.value = 'a(b';
    q.form.requestSubmit();
  });
  await page.locator('#log-fault').waitFor();
  await robot.finished('failing');
  await eventually('errors alone', async () => (await rows(page).count()) > 0 && (await rows(page, 'li.line:not(.level-error)').count()) === 0);
  assert.match(await page.locator('#log-fault').textContent(), /unclosed/);
  await page.context().close();
});

test('a flood is lines and few gaps; a level that nothing lost could pass shows none', async () => {
  const page = await stage.page();
  await alive(page);
  await robot.finished('flood');
  await page.goto(`${stage.url}/status?source=flood`);
  await alive(page);
  const touching = () => page.evaluate(() => {
    const list = [...document.querySelectorAll('#log-lines > li')].map((item) => item.className.split(' ')[0]);
    return list.some((kind, at) => kind === 'gap' && list[at + 1] === 'gap');
  });
  // a line in the middle of it: neither held any more nor kept
  const { epoch } = (await robot.get('/api/logs?limit=1')).lines[0];
  await page.goto(`${stage.url}/status?source=flood#${epoch}:30000`);
  await page.reload();
  await alive(page);
  await eventually('a gap', async () => (await page.locator('#log-lines > li.gap').count()) > 0);
  assert.equal(await touching(), false);
  const text = await page.locator('#log-lines > li.gap').first().textContent();
  assert.match(text, /^[\d,]+ lines? can't be had any more \(/);
  await eventually('lines after it', async () => (await rows(page).count()) > 10);
  await picture(page, 'log-gap');
  await page.setViewportSize({ width: 390, height: 800 });
  await page.emulateMedia({ colorScheme: 'dark' });
  await picture(page, 'log-gap-narrow-dark');
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.selectOption('#log-level', 'error');
  await eventually('no line passes', async () => (await rows(page).count()) === 0);
  assert.equal(await page.locator('#log-lines > li.gap').count(), 0, 'nothing that was lost was an error');
  await page.context().close();
});

test('a tab holds so many lines and no more', async () => {
  const page = await stage.page('/status?source=flood');
  await alive(page);
  await robot.finished('flood');
  await eventually('the last line', async () => (await rows(page).allTextContents()).some((text) => text.includes('flood 60000')));
  const painted = await page.evaluate(() => document.querySelectorAll('#log-lines > li').length);
  assert.ok(painted < 300, `${painted} rows in the document`);
  const here = /^([\d,]+) lines/.exec(await page.locator('#log-footer').textContent())[1];
  assert.ok(Number(here.replaceAll(',', '')) <= 20_000, here);
  await page.context().close();
});

test('a line has an address, and copies and the download are the same text', async () => {
  const page = await stage.page('/status?source=odd', { permissions: ['clipboard-read', 'clipboard-write'] });
  await alive(page);
  await robot.finished('odd');
  const line = rows(page).filter({ hasText: 'red' }).first();
  await line.waitFor();
  const text = await line.locator('.text').textContent();
  assert.equal(text, 'red ␛[2Jclear ␛]0;t␇ ⟦U+202E⟧bidi⟦U+202C⟧ <script>alert(1)</script>');
  assert.equal(await line.locator('.ansi-fg-1').textContent(), 'red');
  await picture(page, 'log-odd');
  await page.click('#log-copy');
  await eventually('the copy', async () => (await page.evaluate(() => navigator.clipboard.readText())).includes(text));
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#log-download')]);
  const file = fs.readFileSync(await download.path(), 'utf8');
  assert.ok(file.includes('␛[1;31mred') && !file.includes('\u001b') && !file.includes('\u202e'), file);
  assert.ok(!file.includes('chatty'), 'the filter holds for the download');

  await line.locator('time').click();
  const address = page.url();
  assert.match(address, /#[0-9a-f]{16}:\d+$/);
  const other = await stage.page(address.slice(stage.url.length));
  await alive(other);
  await eventually('the line', async () => (await other.locator('#log-lines > li.here .text').textContent()) === text);
  await picture(other, 'log-link');
  // once the script has taken over, the lines that came with the page keep their colours
  assert.equal(await other.locator('#log-lines > li.here .ansi-fg-1').textContent(), 'red');
  await page.context().close();
});
