import type { StepContext, StepOptions, WorkflowContext } from '../../context.js';
import { SeededRandom } from '../../execution/context/random.js';
import type { Saga } from '../../saga.js';
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

/** Methods of the context with a body are replaced. Another one that takes a name and a body gets its line here. */
function observedContext(ctx: WorkflowContext, { bodies, seedOf }: Observation): WorkflowContext {
  const seeded = seedOf === undefined ? undefined : new SeededRandom(seedOf(ctx.run));
  const replaced: Record<string | symbol, unknown> = {
    step: (name: string, body: Body, options?: StepOptions) => {
      // What is no function is refused by the real one.
      if (typeof body !== 'function') return ctx.step(name, body, options);
      const isAtMostOnce = options?.begin === 'durable' && options.retry?.maxAttempts === 1;
      return ctx.step(name, (step) => bodies.execute({ name, run: ctx.run, body, isAtMostOnce }, step), options);
    },
    ...observedSaga(ctx, (name, undo) => (step) => {
      return bodies.execute({ name: `compensate:${name}`, run: ctx.run, body: undo, isAtMostOnce: false }, step);
    }),
    ...(seeded === undefined ? {} : { random: () => seeded.next(), uuid: () => seeded.uuid() }),
  };
  return withMethods(ctx, replaced);
}

/** The methods of a saga that register compensations: those of the code are executed by `observe`, also in sagas of it. */
function observedSaga(saga: Saga, observe: (name: string, undo: Body) => Body): Pick<Saga, 'onCompensate' | 'saga'> {
  return {
    // What is no function is refused by the real one.
    onCompensate: (name, undo, options) =>
      saga.onCompensate(name, typeof undo === 'function' ? observe(name, undo) : undo, options),
    saga: (work, options) =>
      saga.saga(
        typeof work === 'function' ? (inner) => work(withMethods(inner, { ...observedSaga(inner, observe) })) : work,
        options,
      ),
  };
}

/** The object with other methods in place of its own. */
function withMethods<T extends object>(real: T, replaced: Record<string | symbol, unknown>): T {
  return new Proxy(real, {
    get: (target, name) => (Object.hasOwn(replaced, name) ? replaced[name] : Reflect.get(target, name, target)),
    set(target, name, value) {
      if (Object.hasOwn(replaced, name)) replaced[name] = value;
      else Reflect.set(target, name, value, target);
      return true;
    },
  });
}
