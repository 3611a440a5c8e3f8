import { createTestEnvironment, type TestEnvironment } from 'perdure/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { expenseWorkflow } from './expense-workflow.js';
import { Outbox } from './outbox.js';
import { payoutWorkflow } from './payout-workflow.js';

const DAY_MS = 86_400_000;
const expense = {
  cents: 12_000,
  manager: 'manager',
  director: 'director',
  remindAfter: DAY_MS,
  escalateAfter: 2 * DAY_MS,
  giveUpAfter: 7 * DAY_MS,
};

let env: TestEnvironment;
beforeAll(async () => {
  env = await createTestEnvironment();
});
afterAll(() => env.close());

it('reminds, escalates and pays when the director approves', async () => {
  const outbox = new Outbox(({ to, promiseId }) => {
    if (to === 'director') void env.client.resolvePromise(promiseId, { approved: true, by: to });
  });
  const run = await env.start(expenseWorkflow(outbox), { ...expense, expenseId: 'chairs' });
  expect(await run.result()).toEqual({ kind: 'approved', by: 'director' });
  expect(outbox.sent.map(({ to }) => to)).toEqual(['manager', 'manager', 'director']);
  expect(await env.run(payoutWorkflow, 'chairs')).toBe('chairs: paid, approved by director');
});

it('expires after a week without a decision', async () => {
  const begun = await env.now();
  const run = await env.start(expenseWorkflow(new Outbox(() => undefined)), { ...expense, expenseId: 'lamps' });
  expect(await run.result()).toEqual({ kind: 'expired' });
  expect((await env.now()).getTime() - begun.getTime()).toBeGreaterThanOrEqual(7 * DAY_MS);
});
