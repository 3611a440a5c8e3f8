import { setTimeout as delay } from 'node:timers/promises';
import { TASK_QUEUE } from './stack.mjs';
import { quantile, withInFlight } from './statistics.mjs';

const taskQueue = TASK_QUEUE;
const now = () => performance.timeOrigin + performance.now();

/** Signals per second from the first one sent until the last one is received. */
async function received(stack, runs, perRun) {
  const starts = Array.from({ length: runs }, () => ({ input: perRun, options: { taskQueue } }));
  const handles = await stack.client.startMany('collect', starts);
  const beganMs = performance.now();
  let n = 0;
  await withInFlight(runs * perRun, 200, () => handles[n++ % runs].signal('item', n));
  const sentMs = performance.now() - beganMs;
  await Promise.all(handles.map((handle) => handle.result()));
  const perSecond = (ms) => (runs * perRun * 1_000) / ms;
  return { 'sent, signals/s': perSecond(sentMs), 'received, signals/s': perSecond(performance.now() - beganMs) };
}

async function untilWaiting(handle) {
  while ((await handle.get()).status !== 'WAITING') await delay(2);
}

/** Workloads of what is sent to runs. */
export const messages = {
  'signals to one run': (stack, scale) => received(stack, 1, 2_000 * scale),
  'signals to many runs': (stack, scale) => received(stack, 1_000, 5 * scale),
  /** From the call to the beginning of the step that follows the wait; the run is suspended, and its worker has it in memory. */
  async 'signal latency'(stack) {
    const count = 100;
    const handle = await stack.client.start('pings', count, { taskQueue });
    for (let n = 0; n < count; n++) {
      await untilWaiting(handle);
      await handle.signal('ping', now());
    }
    const waits = await handle.result();
    return {
      'signal to next step p50, ms': quantile(waits, 0.5),
      'signal to next step p99, ms': quantile(waits, 0.99),
    };
  },
  /** From the call to its answer; the run is suspended, and its worker has it in memory. */
  async 'update latency'(stack) {
    const count = 100;
    const handle = await stack.client.start('answers', undefined, { taskQueue });
    const times = [];
    for (let n = 0; n < count; n++) {
      await untilWaiting(handle);
      const beganMs = performance.now();
      await handle.update('add', n);
      times.push(performance.now() - beganMs);
    }
    await handle.signal('end');
    await handle.result();
    return { 'update p50, ms': quantile(times, 0.5), 'update p99, ms': quantile(times, 0.99) };
  },
};
