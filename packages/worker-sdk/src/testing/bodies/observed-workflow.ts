import type { StepContext, StepOptions, WorkflowContext } from '../../context.js';
import { SeededRandom } from '../../execution/context/random.js';
import type { Workflow } from '../../workflow.js';
import type { Bodies } from './bodies.js';

/** What a test changes in a workflow. */
export interface Observation {
  readonly bodies: Bodies;
  /** Seeds `ctx.random` and `ctx.uuid`, so that runs with different ids draw the same; undefined: by the run id, as always. */
  readonly seedOf?: (run: WorkflowContext['run']) => string;
  /** Code of workflows that are replaced as a whole, by their names. */
  readonly handlers: ReadonlyMap<string, Workflow['handler']>;
}

type Body = (step: StepContext) => unknown;

/** The workflow with its code unchanged; the bodies of its steps go through the test's hands. */
export function observedWorkflow(workflow: Workflow, observation: Observation): Workflow {
  return Object.freeze({
    ...workflow,
    handler: (ctx: WorkflowContext, input: never) => {
      const handler = observation.handlers.get(workflow.name) ?? workflow.handler;
      return handler(observedContext(ctx, observation), input);
    },
  });
}

/**
 * Methods of the context with a body are replaced; `ctx.step` is the only one so far. Another one that takes a name and a body gets its
 * line here.
 */
function observedContext(ctx: WorkflowContext, { bodies, seedOf }: Observation): WorkflowContext {
  const seeded = seedOf === undefined ? undefined : new SeededRandom(seedOf(ctx.run));
  const replaced: Record<string | symbol, unknown> = {
    step: (name: string, body: Body, options?: StepOptions) => {
      // What is no function is refused by the real one.
      if (typeof body !== 'function') return ctx.step(name, body, options);
      const isAtMostOnce = options?.begin === 'durable' && options.retry?.maxAttempts === 1;
      return ctx.step(name, (step) => bodies.execute({ name, run: ctx.run, body, isAtMostOnce }, step), options);
    },
    ...(seeded === undefined ? {} : { random: () => seeded.next(), uuid: () => seeded.uuid() }),
  };
  return new Proxy(ctx, {
    get: (target, name) => (Object.hasOwn(replaced, name) ? replaced[name] : Reflect.get(target, name, target)),
    set(target, name, value) {
      if (Object.hasOwn(replaced, name)) replaced[name] = value;
      else Reflect.set(target, name, value, target);
      return true;
    },
  });
}
