// The Service Status page, alive: rows, lines, actions, and what it does when the node goes away.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, test } from 'node:test';
import { Stage, alive, eventually, job, percentile, picture } from './support.mjs';

const WILD = '<img src=x onerror="window.hit=1"><script>window.hit=1</script><b>bold</b>';

let stage;
let robot;
let web;
let service;

before(async () => {
  stage = new Stage(({ writer, folder }) => [
    job('fails', ['bash', '-c', 'exit 3']),
    job('hello', ['sleep', '0.4']),
    job('long', ['bash', '-c', 'echo "::progress 3/10 indexing"; sleep 600']),
    job('waits', ['bash', '-c', `echo it began; until [ -e ${folder}/go-on ]; do sleep 0.05; done; echo it is over`]),
    job('wild', ['printf', '%s\\n', WILD]),
    job('writer', ['bash', writer, '4000', '1000']),
    job('slow-writer', ['bash', writer, '240', '30']),
    job('often', ['true'], 'schedule = "every 1s"'),
  ].join(''));
  service = await stage.node('service');
  web = await stage.node('web');
  await stage.setUp(web);
  robot = await stage.robot();
  await robot.live();
});

after(() => stage.close());

// Notes the moment at which something first becomes true on the page, by its own clock.
const whenever = (page, selector) => page.evaluate((wanted) => new Promise((resolve) => {
  const look = () => document.querySelector(wanted) && (observer.disconnect(), resolve(Date.now()));
  const observer = new MutationObserver(look);
  observer.observe(document.body, { subtree: true, childList: true, attributes: true });
  look();
}), selector);

test('a change of state is on the page within 300 ms', async () => {
  const page = await stage.page();
  await alive(page);
  const took = [];
  for (let round = 0; round < 5; round += 1) {
    await page.waitForSelector('#d-hello.state-idle');
    const seen = whenever(page, '#d-hello.state-running');
    const asked = Date.now();
    await robot.act('hello', 'run');
    took.push((await seen) - asked);
  }
  assert.ok(percentile(took, 50) <= 300, `running was seen after ${took} ms`);
  assert.deepEqual(page.context().complaints, []);
  await page.context().close();
});

test('95 % of the lines are on the page within 150 ms at 1,000 lines a second', async () => {
  const page = await stage.page();
  await alive(page);
  await page.evaluate(() => {
    window.seen = new Map();
    const look = () => {
      const now = Date.now();
      for (const line of document.querySelectorAll('#log-lines > li[data-seq]')) {
        const found = / at (\d+)/.exec(line.textContent);
        if (found && !window.seen.has(line.dataset.seq)) window.seen.set(line.dataset.seq, now - Number(found[1]) / 1000);
      }
    };
    new MutationObserver(look).observe(document.querySelector('#log-lines'), { childList: true, subtree: true, characterData: true });
  });
  await robot.finished('writer');
  await eventually('the last line', () => page.evaluate(() => document.querySelector('#log-lines').textContent.includes('line 4000 of 4000')));
  const took = await page.evaluate(() => [...window.seen.values()]);
  assert.ok(took.length > 200, `only ${took.length} lines were looked at`);
  const [half, most] = [percentile(took, 50), percentile(took, 95)];
  console.log(`lines on the page: half within ${half.toFixed(0)} ms, 95 % within ${most.toFixed(0)} ms (${took.length} seen)`);
  assert.ok(most <= 150, `95 % within ${most} ms`);
  await page.context().close();
});

test('run now, by its button', async () => {
  const page = await stage.page();
  await alive(page);
  const before = (await robot.executions('hello')).length;
  const running = whenever(page, '#d-hello.state-running');
  await page.click('button[formaction="/dispatchers/hello/run"]');
  await running;
  await eventually('an answer', async () => (await page.textContent('#say')).trim() !== '');
  await page.waitForSelector('#d-hello.state-idle');
  assert.equal((await robot.executions('hello')).length, before + 1);
  assert.ok(page.url().endsWith('/status'), 'the page stayed');
  await page.context().close();
});

test('a double click runs once', async () => {
  const page = await stage.page();
  await alive(page);
  const before = (await robot.executions('hello')).length;
  await page.dblclick('button[formaction="/dispatchers/hello/run"]');
  await eventually('a run that has ended', async () => {
    const runs = await robot.executions('hello');
    return runs.length > before && runs.every((run) => run.outcome);
  });
  assert.equal((await robot.executions('hello')).length, before + 1);
  await page.context().close();
});

const middle = async (page, selector) => {
  const { x, y, width, height } = await page.locator(selector).boundingBox();
  return { x: x + width / 2, y: y + height / 2 };
};

test('double clicks on two rows run each once, and nothing moves under the pointer', async () => {
  const page = await stage.page();
  // both rows are in sight: the mouse is told where to go, and does not scroll
  await page.setViewportSize({ width: 1280, height: 1400 });
  await alive(page);
  const [first, second] = ['hello', 'wild'];
  const button = (name) => `button[formaction="/dispatchers/${name}/run"]`;
  const before = { [first]: (await robot.executions(first)).length, [second]: (await robot.executions(second)).length };
  const [one, two] = [await middle(page, button(first)), await middle(page, button(second))];
  // when the run is shown, and when the answer is
  const running = whenever(page, `#d-${first}.state-running`);
  const answered = whenever(page, '#say.good');
  await page.mouse.dblclick(one.x, one.y);
  await running;
  await answered;
  assert.deepEqual(await middle(page, button(first)), one, 'the button that was pressed');
  assert.deepEqual(await middle(page, button(second)), two, 'the button of the other row');
  await page.mouse.dblclick(two.x, two.y);
  for (const name of [first, second]) {
    await eventually(`a run of ${name} that has ended`, async () => {
      const runs = await robot.executions(name);
      return runs.length > before[name] && runs.every((run) => run.outcome);
    });
  }
  await page.waitForSelector(`#d-${first}.state-idle`);
  assert.deepEqual(await middle(page, button(second)), two, 'when the runs have ended');
  for (const name of [first, second]) assert.equal((await robot.executions(name)).length, before[name] + 1, name);
  assert.deepEqual(page.context().complaints, []);
  await page.context().close();
});

test('no length of time makes a row higher', async () => {
  for (const name of ['hello', 'hello', 'fails']) await robot.finished(name);
  await robot.act('long', 'run');
  await robot.act('often', 'pause');
  const page = await stage.page();
  await alive(page);
  for (const row of ['#d-fails.state-failing .failure', '#d-long.state-running progress', '#d-often.state-paused', '#d-hello.state-idle']) {
    await page.waitForSelector(row);
  }
  // every time in the rows is so far away, and every length that was measured so long; gives the rows' heights
  const heights = (seconds, text) => page.evaluate(async ([away, length]) => {
    const { showTimes } = await import(new URL('times.js', document.querySelector('script[src*="live.js"]').src));
    const now = Date.now();
    for (const time of document.querySelectorAll('#dispatchers time')) {
      time.former ??= Date.parse(time.dateTime);
      time.dateTime = new Date(now + (time.former > now ? away : -away) * 1000).toISOString();
    }
    for (const took of document.querySelectorAll('#dispatchers .number')) if (/ m?s$/.test(took.former ??= took.textContent)) took.textContent = length;
    for (const usual of document.querySelectorAll('#dispatchers :is(.c-last, .run) .soft')) {
      if (/^usually/.test(usual.textContent)) usual.textContent = `usually ${length}`;
    }
    showTimes();
    return [...document.querySelectorAll('#dispatchers > tr')].map((row) => `${row.id} ${row.getBoundingClientRect().height}`);
  }, [seconds, text]);
  for (const width of [1440, 1280, 1024, 800]) {
    await page.setViewportSize({ width, height: 1400 });
    const short = await heights(3, '3 ms');
    assert.ok(short.length >= 8, short.join(', '));
    for (const [seconds, text] of [[59, '59 s'], [599, '9 min 59 s'], [86_399, '23 h 59 min'], [1_000_000, '11 d 13 h']]) {
      assert.deepEqual(await heights(seconds, text), short, `${width} px wide, ${text}`);
      await picture(page, `status-${width}-${seconds}`);
    }
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), `nothing scrolls sideways at ${width} px`);
  }
  await robot.act('often', 'resume');
  await robot.act('long', 'cancel');
  await page.waitForSelector('#d-long:not(.state-running)');
  await page.context().close();
});

test('a pause shows at once while a run goes on, and can be taken back', async () => {
  await robot.act('long', 'run');
  const page = await stage.page();
  await alive(page);
  await page.waitForSelector('#d-long.state-running');
  await page.click('button[formaction="/dispatchers/long/pause"]');
  await page.waitForSelector('#d-long.state-running .held');
  assert.match(await page.textContent('#d-long .held'), /paused by root/);
  const told = await robot.state('long', 'running');
  assert.equal(told.paused.by, 'root');
  assert.match(told.reason, /; paused by root since /);
  await page.click('button[formaction="/dispatchers/long/resume"]');
  await page.waitForSelector('#d-long.state-running:not(:has(.held)) button[formaction="/dispatchers/long/pause"]');
  await robot.act('long', 'cancel');
  await page.waitForSelector('#d-long:not(.state-running)');
  await page.context().close();
});

test("a dispatcher's page changes and grows without being loaded again", async () => {
  await robot.finished('hello');
  const page = await stage.page('/dispatchers/hello');
  await page.evaluate(() => { window.same = true; });
  await page.waitForSelector('main[data-connection=open]');
  const rows = () => page.locator('#history tbody tr').count();
  const [before, bars] = [await rows(), await page.locator('#history .bar').count()];
  const running = whenever(page, '#d-hello.state-running');
  await robot.act('hello', 'run');
  await running;
  const run = (await robot.executions('hello'))[0];
  await page.waitForSelector(`#history tbody tr:has(a[href="/executions/${run.id}"]) .outcome-normal`);
  await page.waitForSelector('#d-hello.state-idle');
  assert.ok((await rows()) === Math.min(before + 1, 25), `${before} rows became ${await rows()}`);
  assert.ok((await page.locator('#history .bar').count()) === bars + 1, 'the chart grows');
  assert.equal(await page.evaluate(() => window.same), true, 'it is the page that was loaded');
  assert.equal(await page.locator('#dispatchers > tr').count(), 1, 'no other dispatcher comes');
  assert.deepEqual(page.context().complaints, []);
  await page.context().close();
});

test('the page of a run that goes on shows its end by itself', async () => {
  const run = async () => {
    await robot.act('waits', 'run');
    await robot.state('waits', 'running');
    return (await robot.executions('waits'))[0].id;
  };
  const page = await stage.page(`/executions/${await run()}`);
  await page.waitForSelector('main[data-connection=open]');
  assert.equal(await page.locator('#d-waits.state-running').count(), 1, 'its row is there, and alive');
  fs.writeFileSync(`${stage.folder}/go-on`, '');
  await page.waitForSelector('h1 + .outcome-normal');
  assert.match(await page.textContent('.output'), /it is over/);
  assert.equal(await page.locator('time.since').count(), 0, 'nothing counts on');
  fs.rmSync(`${stage.folder}/go-on`);
  await page.goto(`${stage.url}/executions/${await run()}`);
  await page.waitForSelector('main[data-connection=open]');
  await page.click('h1 ~ button[formaction$="/cancel"]');
  await page.waitForSelector('h1 + .outcome-cancelled');
  assert.deepEqual(page.context().complaints, []);
  await page.context().close();
});

test('the focus comes back from a question, although the row was drawn anew meanwhile', async () => {
  await robot.act('long', 'run');
  const page = await stage.page();
  await alive(page);
  const cancel = 'button[formaction="/dispatchers/long/cancel"]';
  for (const leave of [() => page.keyboard.press('Escape'), () => page.click('dialog.confirm button.plain')]) {
    await page.click(cancel);
    await page.waitForSelector('dialog[open]');
    await page.evaluate((selector) => { document.querySelector(selector).former = true; }, cancel);
    await robot.act('long', 'pause');
    await page.waitForSelector('#d-long .held');
    await leave();
    await page.waitForSelector('dialog.confirm', { state: 'detached' });
    const focus = await page.evaluate(() => [document.activeElement.getAttribute('formaction'), document.activeElement.former]);
    assert.deepEqual(focus, ['/dispatchers/long/cancel', undefined]);
    await robot.act('long', 'resume');
    await page.waitForSelector('#d-long:not(:has(.held))');
  }
  await robot.act('long', 'cancel');
  await page.waitForSelector('#d-long:not(.state-running)');
  await page.context().close();
});

test('an answer goes away by itself, but not from under the pointer', async () => {
  const page = await stage.page('/about');
  await page.clock.install();
  await page.goto(`${stage.url}/nodes?done=paused`);
  await page.locator('html.scripted').waitFor({ state: 'attached' });
  const said = () => page.textContent('#say');
  assert.match(await said(), /^Paused/);
  await page.hover('#say');
  await page.clock.fastForward(9_000);
  assert.match(await said(), /^Paused/);
  await page.mouse.move(1, 1);
  await page.clock.fastForward(2_000);
  assert.equal(await said(), '');
  await page.context().close();
});

test('a filter that nothing passes says so in full, and how to take it back', async () => {
  const page = await stage.page('/status?q=nothing-is-like-this');
  await alive(page);
  const row = page.locator('#log-lines > li.empty');
  await row.locator('button').waitFor();
  assert.ok(await row.evaluate((item) => {
    const [outer, inner] = [item.getBoundingClientRect(), item.querySelector('button').getBoundingClientRect()];
    return inner.top >= outer.top && inner.bottom <= outer.bottom;
  }), 'the button is whole');
  await row.locator('button').click();
  await eventually('lines', async () => (await page.locator('#log-lines > li[data-seq]').count()) > 0);
  await page.click('#log-copy');
  await eventually('an answer', async () => /^[\d,]+ lines? copied$/.test(await page.textContent('#say')));
  await page.context().close();
});

test('on a phone the tab that is open is in sight', async () => {
  const page = await stage.page('/about', { viewport: { width: 390, height: 844 } });
  await page.locator('html.scripted').waitFor({ state: 'attached' });
  const { x, width } = await page.locator('.menu [aria-current]').boundingBox();
  assert.ok(x >= 0 && x + width <= 391, `from ${x} to ${x + width}`);
  await page.context().close();
});

test('on a phone a dispatcher is a short card, its details unfold, and the log is near', async () => {
  const page = await stage.page('/status', { viewport: { width: 390, height: 844 } });
  await alive(page);
  await page.waitForSelector('#d-hello.state-idle');
  const tall = async (name) => (await page.locator(`#d-${name}`).boundingBox()).height;
  const folded = await tall('hello');
  assert.ok(folded <= 100, `a card is ${folded} px tall`);
  assert.equal(await page.locator('#d-hello .c-last').isVisible(), false);
  for (const verb of ['run', 'pause']) {
    const { width, height } = await page.locator(`button[formaction="/dispatchers/hello/${verb}"]`).boundingBox();
    assert.ok(width >= 44 && height >= 44, `${verb} can be hit by a finger: ${width} × ${height}`);
  }
  await page.click('#d-hello .fold summary');
  await page.waitForSelector('#d-hello .c-last:visible');
  // it goes on changing, and stays unfolded
  const running = whenever(page, '#d-hello.state-running');
  await robot.act('hello', 'run');
  await running;
  assert.equal(await page.locator('#d-hello .c-last').isVisible(), true);
  await page.waitForSelector('#d-hello.state-idle');
  await page.click('a.jump');
  await eventually('the log in sight', () => page.evaluate(() => document.querySelector('#log').getBoundingClientRect().top < 300));
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390, 'nothing scrolls sideways');
  await page.context().close();
});

test('pause and resume', async () => {
  const page = await stage.page();
  await alive(page);
  await page.click('button[formaction="/dispatchers/often/pause"]');
  await page.waitForSelector('#d-often.state-paused');
  assert.match(await page.textContent('#d-often'), /root/, 'it says by whom');
  await page.click('button[formaction="/dispatchers/often/resume"]');
  await page.waitForSelector('#d-often:not(.state-paused)');
  await page.context().close();
});

test('cancel asks first', async () => {
  await robot.act('long', 'run');
  const page = await stage.page();
  await alive(page);
  await page.waitForSelector('#d-long.state-running');
  assert.match(await page.textContent('#d-long'), /indexing/, 'progress is shown');
  await picture(page, 'status-running');
  await page.click('button[formaction="/dispatchers/long/cancel"]');
  await page.click('dialog[open] button:not(.danger)');
  await page.waitForSelector('dialog[open]', { state: 'detached' });
  assert.ok(await page.locator('#d-long.state-running').count(), 'no is no');
  await page.click('button[formaction="/dispatchers/long/cancel"]');
  await page.click('dialog[open] button.danger');
  await page.waitForSelector('#d-long:not(.state-running)');
  assert.equal((await robot.executions('long'))[0].outcome, 'cancelled');
  await page.context().close();
});

test('what a job prints is text, whatever it is', async () => {
  const page = await stage.page();
  await alive(page);
  await robot.finished('wild');
  await eventually('the line', () => page.evaluate((text) => document.querySelector('#log-lines').textContent.includes(text), WILD));
  for (const where of ['/status', `/executions/${(await robot.executions('wild'))[0].id}`]) {
    await page.goto(stage.url + where);
    await eventually('the line', () => page.evaluate((text) => document.body.textContent.includes(text), WILD));
    assert.equal(await page.evaluate(() => window.hit), undefined, where);
    assert.equal(await page.locator('img[src=x]').count(), 0, where);
  }
  assert.deepEqual(page.context().complaints, []);
  await page.context().close();
});

test('pause holds the log and counts what waits; follow goes on', async () => {
  const page = await stage.page();
  await alive(page);
  await page.click('#log-pause');
  const held = await page.evaluate(() => [...document.querySelectorAll('#log-lines > li[data-seq]')].at(-1)?.dataset.seq);
  await robot.finished('wild');
  await eventually('a count', async () => /\d/.test(await page.textContent('#log-waiting')));
  assert.equal(await page.evaluate(() => [...document.querySelectorAll('#log-lines > li[data-seq]')].at(-1)?.dataset.seq), held, 'nothing moves');
  await page.click('#log-pause');
  await eventually('newer lines', () => page.evaluate((last) => Number([...document.querySelectorAll('#log-lines > li[data-seq]')].at(-1)?.dataset.seq) > Number(last ?? 0), held));
  await page.context().close();
});

test('the log is filtered by source, level and pattern', async () => {
  const page = await stage.page();
  await alive(page);
  await robot.finished('wild');
  await page.fill('#log-q', 'bold');
  await eventually('only lines that match', () => page.evaluate(() => {
    const lines = [...document.querySelectorAll('#log-lines > li[data-seq]')];
    return lines.length > 0 && lines.every((line) => line.textContent.includes('bold'));
  }));
  await page.fill('#log-q', 'nothing has this text');
  await eventually('no line', () => page.evaluate(() => document.querySelectorAll('#log-lines > li[data-seq]').length === 0));
  await page.fill('#log-q', '');
  await page.selectOption('#log-level', 'error');
  await eventually('no line below error', () => page.evaluate(() => document.querySelectorAll('#log-lines > li.level-info').length === 0));
  await page.context().close();
});

test('the page says within 5 s that the service is gone, and comes back alone', async () => {
  const page = await stage.page();
  const phone = await stage.page('/status', { viewport: { width: 390, height: 844 } });
  await alive(page);
  await alive(phone);
  const before = (await page.textContent('#link')).trim();
  const changed = page.evaluate((text) => new Promise((resolve) => {
    const look = () => document.querySelector('#link').textContent.trim() !== text
      && !/live/i.test(document.querySelector('#link').textContent) && (observer.disconnect(), resolve(Date.now()));
    const observer = new MutationObserver(look);
    observer.observe(document.body, { subtree: true, childList: true, characterData: true });
  }), before);
  const killed = Date.now();
  await service.kill();
  const took = (await changed) - killed;
  assert.ok(took <= 5_000, `it said so after ${took} ms`);
  const said = (await page.textContent('#link')).trim();
  assert.ok(said.length > 10, `with the cause: ${said}`);
  assert.ok(await page.locator('#d-hello').count(), 'the rows stay');
  assert.ok(await page.locator('button[formaction="/messenger/reconnect"], form[action="/messenger/reconnect"] button').count(), 'there is a Reconnect button');
  await picture(page, 'status-service-gone');
  // what is said of the outage does not flicker, and says when it began
  const beginning = () => page.getAttribute('#link .link-word time', 'datetime');
  await page.waitForSelector('#link.link-down');
  const began = await beginning();
  assert.ok(Math.abs(Date.parse(began) - killed) < 6_000, `${began} is when it went away`);
  await page.evaluate(() => {
    window.words = new Set();
    const look = () => window.words.add(document.querySelector('#link').className);
    look();
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
  });
  await eventually('further attempts', async () => Number(/(\d+) attempts/.exec(await page.textContent('#link'))?.[1]) >= 6);
  assert.deepEqual(await page.evaluate(() => [...window.words]), ['pill link-down']);
  assert.equal(await beginning(), began);
  assert.match(await page.textContent('#node'), /Not reached/);
  assert.match(await page.textContent('#d-often'), /due .*; the service is away/);
  await phone.waitForSelector('#link.link-down');
  assert.equal(await phone.evaluate(() => document.documentElement.scrollWidth), 390, 'nothing scrolls sideways');
  await phone.context().close();
  await service.start();
  await eventually('a live page again', async () => /live/i.test(await page.textContent('#link')));
  await eventually('its strip too', async () => /Up/.test(await page.textContent('#node')));
  await robot.live();
  const seen = whenever(page, '#d-hello.state-running');
  await robot.act('hello', 'run');
  await seen;
  await page.context().close();
});

test('a web node that is killed and started again: nothing lost, nothing twice', async () => {
  const page = await stage.page();
  await alive(page);
  await page.evaluate(() => {
    window.numbers = new Map();
    window.disorder = [];
    const look = () => {
      let last = 0;
      let life = null;
      for (const line of document.querySelectorAll('#log-lines > li[data-seq]')) {
        const seq = Number(line.dataset.seq);
        // lines of a former life of the service stand before those of this one, numbered for themselves
        if (line.dataset.epoch !== life) last = 0;
        life = line.dataset.epoch;
        if (seq <= last) window.disorder.push(`${seq} after ${last}`);
        last = seq;
        const found = /line (\d+) of 240/.exec(line.textContent);
        if (found) window.numbers.set(Number(found[1]), seq);
      }
    };
    new MutationObserver(look).observe(document.querySelector('#log-lines'), { childList: true, subtree: true, characterData: true });
  });
  await robot.act('slow-writer', 'run');
  await eventually('the first lines', () => page.evaluate(() => window.numbers.size > 20));
  await web.kill();
  await eventually('word of it', () => page.evaluate(() => !document.querySelector('#stale')?.hidden || !/live/i.test(document.querySelector('#link').textContent)), 8_000);
  await page.waitForSelector('main.old #link .last-heard', { state: 'attached' });
  assert.match(await page.textContent('table:has(#dispatchers) caption'), /as last heard/);
  await web.start();
  await page.waitForSelector('main:not(.old):not(:has(.last-heard))', { state: 'attached' });
  await eventually('the last line', () => page.evaluate(() => window.numbers.has(240)), 30_000);
  // lines that came many at once were never all on the screen: they are looked at one screen after the other
  await page.evaluate(async () => {
    document.querySelector('#log-pause').click();
    const list = document.querySelector('#log-lines');
    const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    for (let top = 0; top <= list.scrollHeight; top += list.clientHeight / 2) {
      list.scrollTop = top;
      await frame();
    }
  });
  const missing = await page.evaluate(() => Array.from({ length: 240 }, (_, at) => at + 1).filter((number) => !window.numbers.has(number)));
  assert.deepEqual(missing, [], 'no line is lost');
  assert.deepEqual(await page.evaluate(() => window.disorder), [], 'no line is there twice or in the wrong place');
  assert.equal(await page.locator('#log-lines > li.gap').count(), 0, 'no gap');
  await page.context().close();
});
