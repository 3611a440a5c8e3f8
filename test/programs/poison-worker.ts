/** A worker with a workflow that ends its process, and one that does its work beside it. */
import { appendFileSync, existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker, workflow } from '@perdure/worker-sdk';

const notes = process.env.NOTES ?? '/dev/null';

/** Ends the process: at once, or because it takes all memory that it may have. */
export const poison = workflow('poison', async (ctx, how: 'exit' | 'memory') => {
  await ctx.step('read', () => how);
  await ctx.step('parse', () => {
    appendFileSync(notes, `${process.pid} ${how}\n`);
    if (how === 'exit') process.exit(7);
    const taken: number[][] = [];
    for (;;) taken.push(new Array<number>(1_000_000).fill(taken.length));
  });
});

/** Steps one after the other until the test lets it come to its end. */
export const neighbour = workflow('neighbour', async (ctx, id: number) => {
  let steps = 0;
  for (let isOver = false; !isOver; steps++) {
    isOver = await ctx.step('work', async () => {
      await delay(20);
      return existsSync(`${notes}.go`);
    });
  }
  return [id, steps];
});

const worker = new Worker({
  taskQueue: process.env.QUEUE ?? 'q',
  workflows: [poison, neighbour],
  leaseDuration: '1s',
  concurrency: 10,
  build: 'b7',
});
await worker.run();
