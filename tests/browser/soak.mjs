// A tab that stays open: at 1,000 lines a second its memory must stay where it is. `scripts/soak tab` runs this.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Stage, alive, eventually, job } from './support.mjs';

const seconds = Number(process.env.SOAK_SECONDS ?? 600);
const lines = seconds * 1000;

let stage;
let robot;

before(async () => {
  stage = new Stage(({ writer }) => job('writer', ['bash', writer, String(lines), '1000'], 'schedule = "manual"\ntimeout = "2h"'));
  await stage.setUp(await stage.node());
  robot = await stage.robot();
  await robot.live();
});

after(() => stage.close());

test(`a tab holds its memory for ${seconds} s at 1,000 lines/s`, { timeout: (seconds + 120) * 1000 }, async () => {
  const page = await stage.page();
  await alive(page);
  const debuggee = await page.context().newCDPSession(page);
  await debuggee.send('Performance.enable');
  await debuggee.send('HeapProfiler.enable');
  const measure = async () => {
    await debuggee.send('HeapProfiler.collectGarbage');
    const { metrics } = await debuggee.send('Performance.getMetrics');
    const of = (name) => metrics.find((metric) => metric.name === name).value;
    return { heap: of('JSHeapUsedSize') / 2 ** 20, elements: of('Nodes') };
  };
  await robot.act('writer', 'run');
  const samples = [];
  const pause = Math.max(1, seconds / 20) * 1000;
  const end = Date.now() + (seconds + 60) * 1000;
  const over = () => page.evaluate((last) => document.querySelector('#log-lines').textContent.includes(`line ${last} of`), lines);
  while (!(await over())) {
    assert.ok(Date.now() < end, 'the last line did not come');
    const sample = await measure();
    samples.push(sample);
    console.log(`heap ${sample.heap.toFixed(1)} MiB, ${sample.elements} elements`);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
  const last = await measure();
  // what the tab keeps of the log fills up in the first third
  const early = samples[Math.floor(samples.length / 3)];
  assert.ok(last.heap < early.heap + 48, `the heap grew from ${early.heap} to ${last.heap} MiB`);
  assert.ok(last.elements < 20_000, `${last.elements} elements`);
  await eventually('a page that still answers', () => page.evaluate(() => document.visibilityState === 'visible'));
  await page.context().close();
});
