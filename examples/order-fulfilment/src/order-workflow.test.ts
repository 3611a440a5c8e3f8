import { createTestEnvironment, expectHistory, type TestEnvironment } from 'perdure/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { orderWorkflow } from './order-workflow.js';
import { PaymentGateway } from './payment-gateway.js';

const order = { orderId: 'o-1', card: '4242', items: [{ sku: 'teapot', quantity: 2, cents: 1_950 }] };
// The card is charged by a stub, so nothing is written.
const fulfil = orderWorkflow(new PaymentGateway('/dev/null'));

let env: TestEnvironment;
beforeAll(async () => {
  env = await createTestEnvironment();
});
afterAll(() => env.close());

it('charges the card once, after the warehouse has answered in its third attempt', async () => {
  const charge = env.stub('charge card', () => ({ paymentId: 'pay-1' }));
  const run = await env.start(fulfil, order);
  expect(await run.result()).toMatchObject({ paymentId: 'pay-1', cents: 3_900, invoice: 'INV-o-1: 39.00 EUR' });
  expect(charge.effects).toBe(1);
  await expectHistory(run).toMatch([
    { step: 'reserve stock', status: 'completed', attempts: 3 },
    'charge card',
    { step: 'cooling-off', kind: 'sleep' },
    'print label',
    'write invoice',
    'hand to carrier',
  ]);
});

it('does not retry what cannot be reserved', async () => {
  const discontinued = { ...order, items: [{ sku: 'discontinued', quantity: 1, cents: 1 }] };
  await expect(env.run(fulfil, discontinued)).rejects.toMatchObject({
    cause: { message: 'An item is no longer made.' },
  });
});

it('comes to the same wherever its worker crashes', async () => {
  env.stub('charge card', () => ({ paymentId: 'pay-1' }));
  // The real label has a part of the run's id, which is another one each time.
  env.stub('print label', () => 'TRK-1');
  const report = await env.crashEverywhere(fulfil, order);
  expect(report.points).toBeGreaterThan(20);
}, 180_000);
