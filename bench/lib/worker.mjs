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

const worker = new Worker({
  taskQueue: TASK_QUEUE,
  workflows: [steps('one', 1), steps('ten', 10), timed, nap],
  concurrency: 400,
});
await worker.run();
