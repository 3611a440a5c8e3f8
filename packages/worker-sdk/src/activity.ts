import type { StepContext, StepOptions } from './context.js';
import { durationMs } from './duration.js';
import { type CallDefaults, type Workflow, workflow } from './workflow.js';

/** A function that other workflows call on any task queue. Made by {@link activity}; listed among the `workflows` of a worker. */
export type Activity<Input = unknown, Output = unknown> = Workflow<Input, Output>;

/** Those of a step, and how long its calls may take; each option is optional, and a call may have others. */
export interface ActivityOptions extends StepOptions, CallDefaults {}

/**
 * Defines a function that workflows call with `ctx.call`, on the same or on another task queue: a run of one step. It has the retries,
 * timeouts and heartbeats of a step; `startTimeout` limits the wait of a call for a worker, and `runTimeout` all of its attempts together.
 *
 * @param name 1 to 200 bytes; recorded with each run
 * @param body sync or async; may have side effects; executed at least once
 * @param options those of a step, and the timeouts of its calls
 * @throws {TypeError} when the name or a timeout of its calls cannot be used
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
  options: ActivityOptions = {},
): Activity<Input, Awaited<Output>> {
  if (typeof body !== 'function') throw new TypeError(`Activity '${name}' needs a function.`);
  const { startTimeout, runTimeout, ...ofStep } = options;
  const callDefaults = {
    ...(startTimeout === undefined ? {} : { startTimeout }),
    ...(runTimeout === undefined ? {} : { runTimeout }),
  };
  for (const [key, timeout] of Object.entries(callDefaults)) durationMs(timeout, `${key} of activity '${name}'`);
  const made = workflow<Input, Awaited<Output>>(name, (ctx, input) =>
    ctx.step(name, (step) => body(input, step), ofStep),
  );
  return Object.freeze({ ...made, callDefaults });
}
