/** Tests with the runner of Node: `node --test` executes this file in a test of ours. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { workflow } from '@perdure/worker-sdk';
import { createTestEnvironment, expectHistory, type TestEnvironment } from '@perdure/worker-sdk/testing';

const remind = workflow('remind', async (ctx, who: string) => {
  await ctx.sleep('a month', '30 days');
  return ctx.step('mail', () => `mailed ${who}`);
});

let env: TestEnvironment;
before(async () => {
  env = await createTestEnvironment();
});
after(() => env.close());

test('reminds after a month', async () => {
  const run = await env.start(remind, 'Ada');
  assert.equal(await run.result(), 'mailed Ada');
  await expectHistory(run).toMatch([{ step: 'a month', kind: 'sleep' }, 'mail']);
});

test('shows a difference', async () => {
  const run = await env.start(remind, 'Grace');
  await run.result();
  await expectHistory(run).toMatch(['mail']);
});
