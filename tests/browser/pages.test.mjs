// Every page, with data on it: accessible, in light and dark, wide and narrow; and all of it without scripts.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { PASSWORD, Stage, alive, eventually, job, picture, violations } from './support.mjs';

const DESKTOP = { width: 1280, height: 900 };
const TABLET = { width: 1024, height: 768 };
const PHONE = { width: 390, height: 844 };

let stage;
let robot;
let node;
let pages;

before(async () => {
  stage = new Stage(() => [
    job('hello', ['echo', 'hello from the job']),
    job('fails', ['bash', '-c', 'echo it begins; echo it ends badly >&2; exit 3']),
    job('long', ['bash', '-c', 'echo "::progress 3/10 indexing"; sleep 600'], 'schedule = "manual"\ntitle = "A long title of a job that takes its time and has a lot to say about itself"'),
    job('a-rather-long-name-of-a-job-that-needs-room-on-a-small-screen', ['true'], 'schedule = "every 5m"'),
    job('off', ['true'], 'schedule = "every 5m"\nenabled = false'),
    job('held', ['true'], 'schedule = "30 3 * * mon-fri"\ntime_zone = "Europe/Berlin"'),
  ].join(''));
  node = await stage.node();
  await stage.setUp(node);
  robot = await stage.robot();
  await robot.live();
  await robot.finished('hello');
  const failed = await robot.finished('fails');
  await robot.act('held', 'pause');
  await robot.act('long', 'run');
  await robot.state('long', 'running');
  const [running] = await robot.executions('long');
  stage.command('user', 'add', 'eve', '--role', 'admin_viewer', '--token');
  stage.command('settings', 'set', 'Service.PollInterval', '9s');
  pages = [
    '/status', '/dispatchers/hello', '/dispatchers/fails', '/executions', `/executions/${failed.id}`, `/executions/${running.id}`, '/settings',
    '/settings/Service.PollInterval', '/settings/Service.MessengerKey', '/settings/import', '/nodes', '/audit', '/diagnostics', '/users', '/password', '/about',
    '/no-such-page',
  ];
  // and whatever else the menu leads to
  const page = await stage.page();
  for (const link of await page.locator('nav a[href^="/"]').evaluateAll((links) => links.map((a) => new URL(a.href).pathname))) {
    if (!pages.includes(link) && link !== '/') pages.push(link);
  }
  await page.context().close();
});

after(() => stage.close());

const name = (where) => where.slice(1).replaceAll('/', '-').replace(/\d+/, 'ID') || 'root';

for (const colorScheme of ['light', 'dark']) {
  for (const [size, viewport] of [['desktop', DESKTOP], ['phone', PHONE]]) {
    test(`every page is accessible: ${colorScheme}, ${size}`, async () => {
      const wrong = [];
      const page = await stage.page('/about', { colorScheme, viewport });
      for (const where of pages) {
        await page.goto(stage.url + where);
        if (where === '/status') await alive(page);
        for (const violation of await violations(page)) wrong.push(`${where}: ${violation}`);
        await picture(page, `${name(where)}-${colorScheme}-${size}`);
        for (const fits of size === 'desktop' ? [viewport, TABLET] : [viewport]) {
          await page.setViewportSize(fits);
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
          if (wide > 0) wrong.push(`${where}: scrolls sideways by ${wide} px at ${fits.width} px`);
          const hidden = await page.evaluate(() => { const menu = document.querySelector('.menu'); return menu ? menu.scrollWidth - menu.clientWidth : 0; });
          if (size === 'desktop' && hidden > 0) wrong.push(`${where}: ${hidden} px of the menu are out of sight at ${fits.width} px`);
        }
        await page.setViewportSize(viewport);
      }
      const complaints = page.context().complaints.filter((text) => !/404/.test(text));
      await page.context().close();
      const stranger = await (await stage.window({ colorScheme, viewport })).newPage();
      await stranger.goto(`${stage.url}/sign-in`);
      for (const violation of await violations(stranger)) wrong.push(`/sign-in: ${violation}`);
      await picture(stranger, `sign-in-${colorScheme}-${size}`);
      await stranger.context().close();
      assert.deepEqual(wrong, []);
      assert.deepEqual(complaints, [], 'the console is quiet; no script or style is refused');
    });
  }
}

test('dark is dark and light is light', async () => {
  const light = {};
  for (const colorScheme of ['light', 'dark']) {
    const page = await stage.page('/status', { colorScheme });
    light[colorScheme] = await page.evaluate(() => {
      const of = (element) => getComputedStyle(element).backgroundColor.match(/[\d.]+/g).map(Number);
      const [r, g, b, a = 1] = of(document.body);
      const [hr, hg, hb] = a === 0 ? of(document.documentElement) : [r, g, b];
      return hr + hg + hb;
    });
    await page.context().close();
  }
  assert.ok(light.light > 600, `light: ${light.light} of 765`);
  assert.ok(light.dark < 200, `dark: ${light.dark} of 765`);
});

test('every page has a title, one main, and no script or style in it', async () => {
  const page = await stage.page('/about');
  const titles = new Set();
  for (const where of pages) {
    const answer = await page.goto(stage.url + where);
    const policy = answer.headers()['content-security-policy'] ?? '';
    assert.ok(/script-src/.test(policy) || /default-src/.test(policy), `${where} has no policy`);
    assert.ok(!/unsafe-inline|unsafe-eval/.test(policy), `${where}: ${policy}`);
    const html = await answer.text();
    assert.ok(!/<script(?![^>]*\bsrc=)[^>]*>/.test(html), `${where} has an inline script`);
    assert.ok(!/\sstyle=|<style|\son[a-z]+="/.test(html), `${where} has an inline style or handler`);
    titles.add(await page.title());
    assert.equal(await page.locator('main').count(), 1, where);
    assert.equal(await page.locator('h1').count(), 1, where);
  }
  assert.ok(titles.size >= pages.length - 3, `titles tell pages apart: ${[...titles].join(' · ')}`);
  await page.context().close();
});

test('links of every page lead somewhere', async () => {
  const page = await stage.page('/about');
  const seen = new Set();
  for (const where of pages) {
    await page.goto(stage.url + where);
    const links = await page.locator('a[href]').evaluateAll((found) => found.map((a) => new URL(a.getAttribute('href'), document.baseURI).href));
    for (const link of links.filter((found) => found.startsWith(stage.url))) {
      const target = link.split('#')[0];
      // a page's link to itself is as good as the page: the one for what is not there is tested as such
      if (seen.has(target) || target.includes('follow=1') || target === stage.url + where) continue;
      seen.add(target);
      const answer = await page.request.get(target);
      assert.ok(answer.ok(), `${where} links to ${target}: ${answer.status()}`);
    }
  }
  assert.ok(seen.size > 10, 'few links were found');
  await page.context().close();
});

test('without scripts: the same page, its lines, and every action a form', async () => {
  const context = await stage.window({ javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(`${stage.url}/status`);
  assert.match(page.url(), /\/sign-in/, 'first one signs in');
  await page.fill('input[name=name]', 'root');
  await page.fill('input[type=password]', PASSWORD);
  await page.click('main button[type=submit], main form button:not([type=button])');
  assert.ok(page.url().endsWith('/status'), page.url());
  await page.waitForSelector('#d-hello');
  await eventually('lines on the page', async () => {
    await page.reload();
    return (await page.locator('#log-lines > li').count()) > 0 && (await page.textContent('#log-lines')).includes('hello from the job');
  });
  assert.ok((await page.locator('#log-lines > li').count()) <= 200);

  const before = (await robot.executions('hello')).length;
  await page.click('button[formaction="/dispatchers/hello/run"]');
  assert.ok(new URL(page.url()).pathname === '/status', `back on the page: ${page.url()}`);
  await eventually('the run', async () => (await robot.executions('hello')).length === before + 1);
  // a run that was going on is shown as running until it ends
  await eventually('the end of the run', async () => {
    await page.reload();
    return page.locator('#d-hello.state-idle').count();
  });
  for (let round = 0; round < 3; round += 1) {
    await page.click('button[formaction="/dispatchers/hello/pause"]');
    assert.match(await page.textContent('#say'), /^Paused/);
    assert.equal(await page.locator('#d-hello.state-paused').count(), 1, 'the page that says so shows it');
    await page.click('button[formaction="/dispatchers/hello/resume"]');
    assert.equal(await page.locator('#d-hello.state-paused').count(), 0, 'and that it goes on');
  }

  await page.selectOption('#log-level', 'error');
  await page.locator('#log-filter button:not([type=button])').first().click();
  await page.waitForURL(/level=error/);
  assert.equal(await page.locator('#log-lines > li.level-info').count(), 0);
  await picture(page, 'status-without-scripts');
  await context.close();
});

test('without scripts a run with progress stays within its column', async () => {
  const page = await stage.page('/status', { javaScriptEnabled: false });
  await eventually('a guess of when it ends', async () => {
    await page.reload();
    return page.locator('#d-long .run .end time').count();
  });
  for (const width of [1440, 1024, 390]) {
    await page.setViewportSize({ width, height: 900 });
    const wrong = await page.evaluate(() => {
      const cell = document.querySelector('#d-long .c-state').getBoundingClientRect();
      return [...document.querySelectorAll('#d-long .run .line > *')].flatMap((part) => {
        const { right, height } = part.getBoundingClientRect();
        return right > cell.right + 0.5 || height > 40 ? [`${part.textContent}: up to ${right} of ${cell.right}, ${height} px high`] : [];
      });
    });
    assert.deepEqual(wrong, [], `${width} px wide`);
    await picture(page, `status-without-scripts-${width}`);
  }
  await page.context().close();
});

test('an onlooker sees no action', async () => {
  const token = stage.command('user', 'add', 'anna', '--role', 'admin_viewer', '--token');
  assert.ok(token.length > 30);
  const page = await stage.page();
  assert.ok((await page.locator('#d-hello .act:visible, button[formaction="/dispatchers/hello/run"]:visible').count()) > 0, 'an administrator sees them');
  await page.evaluate(() => document.querySelector('main').removeAttribute('data-may-act'));
  assert.equal(await page.locator('button[formaction="/dispatchers/hello/run"]:visible').count(), 0, 'the class on main hides them');
  await page.context().close();
});

test('sign-out ends the session', async () => {
  const context = await stage.window();
  const page = await context.newPage();
  await page.goto(`${stage.url}/sign-in`);
  await page.fill('input[name=name]', 'root');
  await page.fill('input[type=password]', PASSWORD);
  await page.click('main button[type=submit], main form button:not([type=button])');
  await page.waitForURL('**/status');
  await page.click('form[action="/sign-out"] button, button[formaction="/sign-out"]');
  await page.goto(`${stage.url}/status`);
  assert.match(page.url(), /\/sign-in/);
  await context.close();
});
