import assert from 'node:assert/strict';
import test from 'node:test';

import { Asked } from '../../static/log-asked.js';

test('a good filter that was followed by a bad one is the one in force', () => {
  const asked = new Asked();
  const good = asked.add({ filter: 'good' });
  const bad = asked.add({ filter: '(' });
  assert.equal(asked.newest, bad);
  assert.equal(asked.agreed(good.id), good);
  assert.equal(asked.refused(), bad, 'refusals come without a number, in the order of the questions');
  assert.equal(asked.newest, null);
});

test('a bad filter that was followed by a good one is forgotten', () => {
  const asked = new Asked();
  asked.add({ filter: '(' });
  const good = asked.add({ filter: 'good' });
  asked.refused();
  assert.equal(asked.newest, good);
  assert.equal(asked.agreed(good.id), good);
  assert.equal(asked.agreed(good.id), null, 'once');
});

test('an answer to a later question ends what was asked before it', () => {
  const asked = new Asked();
  for (const filter of ['a', 'b', 'c']) asked.add({ filter });
  assert.equal(asked.agreed(2).filter, 'b');
  assert.equal(asked.refused(1), null, 'nobody waits for it any more');
  assert.equal(asked.newest.filter, 'c');
  assert.equal(asked.refused(3).filter, 'c');
  assert.equal(asked.refused(), null);
});

test('on a new connection only the newest is asked again', () => {
  const asked = new Asked();
  assert.equal(asked.renew(), null);
  for (const filter of ['a', 'b']) asked.add({ filter });
  assert.equal(asked.renew().filter, 'b');
  assert.equal(asked.agreed(1), null, 'that was said to nobody');
  assert.equal(asked.agreed(2).filter, 'b');
});
