// The worker of the benchmarks.
import { Worker, workflow } from '@perdure/worker-sdk';
import { TASK_QUEUE } from './stack.mjs';

const now = () => performance.timeOrigin + performance.now();

const steps = (name, count) =>
  workflow(name, async (ctx) => {
    let sum = 0;
    for (let n = 0; n < count; n++) sum += await ctx.step('s', () => n);
    return sum;
  });

/** When its first step began, and when each step ended. */
const timed = workflow('timed', async (ctx, count) => {
  const times = [await ctx.step('first', now)];
  for (let n = 0; n < count; n++) times.push(await ctx.step('s', now));
  return times;
});

const nap = workflow('nap', async (ctx, untilMs) => {
  await ctx.sleepUntil(new Date(untilMs));
  return now() - untilMs;
});

const collect = workflow('collect', async (ctx, count) => {
  let sum = 0;
  for (let n = 0; n < count; n++) sum += await ctx.waitForSignal('item');
  return sum;
});

/** How long each signal, which carries when it was sent, took until the step after it. */
const pings = workflow('pings', async (ctx, count) => {
  const waits = [];
  for (let n = 0; n < count; n++) {
    const sentMs = await ctx.waitForSignal('ping');
    waits.push(await ctx.step('s', () => now() - sentMs));
  }
  return waits;
});

/** Answers updates until it is told that there are no more. */
const answers = workflow('answers', async (ctx) => {
  ctx.handle('add', (n) => n + 1);
  await ctx.waitForSignal('end');
});

const one = steps('one', 1);
/** One child per item; its result is how many have returned. */
const fanout = workflow('fanout', async (ctx, count) => {
  const results = await ctx.map(Array.from({ length: count }), () => ctx.child(one));
  return results.length;
});

const worker = new Worker({
  taskQueue: TASK_QUEUE,
  workflows: [one, fanout, steps('ten', 10), timed, nap, collect, pings, answers],
  concurrency: 400,
});
await worker.run();
