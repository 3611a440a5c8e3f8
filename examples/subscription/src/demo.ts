/** Runs three years of a subscription in seconds: the testing kit skips the time in which nothing happens. */
import { createTestEnvironment } from 'perdure/testing';
import { changePrice, subscriptionWorkflow, TASK_QUEUE, unsubscribe } from './subscription-workflow.js';

const say = (text: string) => process.stdout.write(`${text}\n`);
const MONTHS = 36;

/** Cents by idempotency key: what the bank has charged. */
const charges = new Map<string, number>();
const subscription = subscriptionWorkflow((customer, cents, key) => {
  charges.set(key, cents);
  if (charges.size % 12 === 1) say(`  month ${charges.size}: ${customer} is charged ${cents} cents`);
});

await using env = await createTestEnvironment();
const workflowId = 'subscription ada';
const run = await env.start(
  subscription,
  { customer: 'Ada', cents: 900, months: 0 },
  { taskQueue: TASK_QUEUE, workflowId },
);

// The handle is that of the first run. What it sends reaches the run of the present month.
await env.until(() => charges.size === 18);
const old = await run.update(changePrice, 1_200);
say(`  the price changes from ${old} to 1200 cents`);
await env.until(() => charges.size === MONTHS);
await run.signal(unsubscribe, 'moving away');
say(`  ${await run.result()}`);

let runs = 0;
for await (const _ of env.client.list({ workflowId })) runs++;
const cents = [...charges.values()].reduce((sum, each) => sum + each, 0);
say(`${MONTHS} months, ${runs} runs, ${charges.size} charges of ${cents} cents in all`);
