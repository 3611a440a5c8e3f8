/** A worker whose workflow writes down what its bodies do, outside of PostgreSQL. */
import { appendFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker, workflow } from '@perdure/worker-sdk';

const note = (text: string) => appendFileSync(process.env.NOTES ?? '/dev/null', `${process.pid} ${text}\n`);

/** A long step in the middle. */
export const held = workflow('held', async (ctx, holdMs: number) => {
  await ctx.step('before', () => note('before'));
  const who = await ctx.step('hold', async ({ signal }) => {
    note('hold');
    signal.addEventListener('abort', () => note('aborted'));
    await delay(holdMs);
    note('held');
    return process.pid;
  });
  await ctx.step('after', () => note('after'));
  return who;
});

/** Five steps, one after the other. */
export const five = workflow('five', async (ctx, id: number) => {
  let sum = 0;
  for (let n = 0; n < 5; n++) {
    sum += await ctx.step('s', () => {
      note(`${id} s${n}`);
      return n;
    });
  }
  return sum;
});

/** Very many quick steps. */
export const many = workflow('many', async (ctx, count: number) => {
  for (let n = 0; n < count; n++) await ctx.step('s', () => note(`m${n}`));
  return process.pid;
});

const worker = new Worker({
  taskQueue: process.env.QUEUE ?? 'q',
  workflows: [held, five, many],
  leaseDuration: '1s',
  concurrency: 50,
});
await worker.run();
