import type { StepContext, StepOptions } from './context.js';
import { type Workflow, workflow } from './workflow.js';

/** A function that other workflows call on any task queue. Made by {@link activity}; listed among the `workflows` of a worker. */
export type Activity<Input = unknown, Output = unknown> = Workflow<Input, Output>;

/**
 * Defines a function that workflows call with `ctx.call`, on the same or on another task queue: a run of one step. It has the retries,
 * timeouts and heartbeats of a step; `startTimeout` and `runTimeout` of the call limit the wait for a worker and all attempts together.
 *
 * @param name 1 to 200 bytes; recorded with each run
 * @param body sync or async; may have side effects; executed at least once
 * @param options those of a step
 * @throws {TypeError} when the name cannot be used
 *
 * @example
 * const resize = activity('resize', async (image: { url: string; width: number }, step) => { … }, { timeout: '2 minutes' });
 * const worker = new Worker({ taskQueue: 'images', workflows: [resize] });
 * // In a workflow of any queue:
 * const thumbnail = await ctx.call(resize, { url, width: 200 }, { taskQueue: 'images' });
 */
export function activity<Input = undefined, Output = unknown>(
  name: string,
  body: (input: Input, step: StepContext) => Output | PromiseLike<Output>,
  options?: StepOptions,
): Activity<Input, Awaited<Output>> {
  if (typeof body !== 'function') throw new TypeError(`Activity '${name}' needs a function.`);
  return workflow<Input, Awaited<Output>>(name, (ctx, input) => ctx.step(name, (step) => body(input, step), options));
}
