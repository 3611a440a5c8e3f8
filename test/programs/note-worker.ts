/** A worker whose workflow writes down what its bodies do, outside of PostgreSQL. */
import { appendFileSync, existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker, workflow } from '@perdure/worker-sdk';

const note = (text: string) => appendFileSync(process.env.NOTES ?? '/dev/null', `${process.pid} ${text}\n`);

/** Bodies that wait for the test may continue. */
const mayGo = () => existsSync(`${process.env.NOTES}.go`);
const gate = async () => {
  while (!mayGo()) await delay(10);
};

/** A step in the middle that lasts until the test lets it continue. */
export const held = workflow('held', async (ctx, _: undefined) => {
  await ctx.step('before', () => note('before'));
  const who = await ctx.step('hold', async ({ signal }) => {
    note('hold');
    signal.addEventListener('abort', () => note('aborted'));
    await gate();
    note('held');
    return process.pid;
  });
  await ctx.step('after', () => note('after'));
  return who;
});

/** Five steps, one after the other; the last one of run -1 lasts until the test lets it continue. */
export const five = workflow('five', async (ctx, id: number) => {
  let sum = 0;
  for (let n = 0; n < 5; n++) {
    sum += await ctx.step('s', async () => {
      note(`${id} s${n}`);
      if (id === -1 && n === 4) await gate();
      return n;
    });
  }
  return sum;
});

/** Quick steps until the test lets it come to its end. */
export const many = workflow('many', async (ctx, _: undefined) => {
  for (let n = 0, isOver = false; !isOver; n++) {
    isOver = await ctx.step('s', () => {
      note(`m${n}`);
      return mayGo();
    });
  }
  return process.pid;
});

/** A step after each of two signals. */
export const signalled = workflow('signalled', async (ctx, _: undefined) => {
  for (let n = 0; n < 2; n++) {
    await ctx.waitForSignal('go');
    await ctx.step('s', () => note(`after ${n}`));
  }
  return process.pid;
});

/** A chain of runs that counts to the input's `until`; each run is charged once. */
export const chain = workflow('chain', async (ctx, { n, until }: { n: number; until: number }): Promise<number> => {
  await ctx.step('charge', ({ idempotencyKey }) => note(`charge ${n} ${idempotencyKey}`));
  if (n === until) return n;
  return ctx.continueAsNew({ n: n + 1, until });
});

const worker = new Worker({
  taskQueue: process.env.QUEUE ?? 'q',
  workflows: [held, five, many, signalled, chain],
  leaseDuration: '1s',
  concurrency: 50,
});
await worker.run();
