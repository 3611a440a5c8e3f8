/** A worker whose workflow receives signals of two names, each to its end. */
import { Worker, workflow } from '@perdure/worker-sdk';

export const NAMES = ['left', 'right'] as const;

/** @returns what it received, by name */
export const collector = workflow('collector', async (ctx, perName: number) => {
  const received = await Promise.all(
    NAMES.map(async (name) => {
      const numbers: number[] = [];
      while (numbers.length < perName) numbers.push(await ctx.waitForSignal<number>(name));
      return numbers;
    }),
  );
  return Object.fromEntries(NAMES.map((name, index) => [name, received[index]]));
});

if (process.env.TASK_QUEUE !== undefined) {
  const worker = new Worker({
    taskQueue: process.env.TASK_QUEUE,
    workflows: [collector],
    concurrency: 50,
    // Fewer than there are runs: some are replayed.
    warmRuns: 40,
    leaseDuration: '2s',
  });
  await worker.run();
}
