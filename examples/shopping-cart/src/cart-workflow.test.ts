import { createTestEnvironment, type TestEnvironment } from 'perdure/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { addItem, cartWorkflow, checkout, viewed } from './cart-workflow.js';

let env: TestEnvironment;
beforeAll(async () => {
  env = await createTestEnvironment();
});
afterAll(() => env.close());

const CARD = '4242 4242 4242 4242';

it('is paid for what was put into it', async () => {
  const charge = env.stub('charge', () => 'pay-1');
  const run = await env.start(cartWorkflow);
  await run.update(addItem, { sku: 'cup', quantity: 2 });
  await expect(run.update(addItem, { sku: 'sofa', quantity: 1 })).rejects.toThrow("There is no 'sofa'.");
  expect(await run.update(checkout, { card: CARD })).toEqual({ paymentId: 'pay-1' });
  expect(await run.result()).toMatchObject({ status: 'paid', cents: 1_700 });
  expect(charge.calls).toHaveLength(1);
});

it('is abandoned a week after somebody has looked at it', async () => {
  const run = await env.start(cartWorkflow);
  await env.advance('6 days');
  await run.signal(viewed);
  await env.advance('6 days');
  expect(await run.state()).toMatchObject({ status: 'open' });
  await env.advance('1 day');
  expect(await run.result()).toMatchObject({ status: 'abandoned' });
});

it('charges once, wherever its worker crashes', async () => {
  env.stub('charge', () => 'pay-1');
  const report = await env.crashEverywhere(cartWorkflow, undefined, {
    drive: async ({ handle }) => {
      await handle.update(addItem, { sku: 'teapot', quantity: 1 });
      await handle.update(checkout, { card: CARD });
    },
  });
  expect(report.points).toBeGreaterThan(10);
}, 180_000);
