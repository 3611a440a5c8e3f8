import {
  activity,
  event,
  type StepContext,
  signal,
  TerminalError,
  type WorkflowContext,
  workflow,
} from '@perdure/worker-sdk';
import type { World } from './world.js';

export const late = signal<string>('late');
const echo = signal<number>('echo');
const approval = signal<string>('approval');
const shipped = event<string>('shipped');

const FAST = { retry: { maxAttempts: 3, initial: '10 minutes' } } as const;
const ONCE = { retry: { maxAttempts: 1 } } as const;

/** Holds bodies back until the test lets them end; by execution of the crash test. */
export class Gates {
  readonly #arrived = new Set<string>();
  readonly #opened = new Map<string, () => void>();
  readonly #open = new Map<string, Promise<void>>();

  /** A body has come to the gate, and waits. */
  pass(execution: string): Promise<void> {
    this.#arrived.add(execution);
    return this.#gate(execution);
  }

  hasArrived(execution: string): boolean {
    return this.#arrived.has(execution);
  }

  open(execution: string): void {
    void this.#gate(execution);
    this.#opened.get(execution)?.();
  }

  #gate(execution: string): Promise<void> {
    let gate = this.#open.get(execution);
    if (gate === undefined) {
      gate = new Promise((resolve) => this.#opened.set(execution, resolve));
      this.#open.set(execution, gate);
    }
    return gate;
  }
}

/**
 * What a run does when something goes wrong, or when people interfere: lazy steps, a retry of the whole run, a pause while a body is at work, a continuation as a new
 * run that takes a signal along, signals and events from the code itself, a step that is skipped by hand, sagas in every form, and a
 * failure for good.
 *
 * The World is asked by namespace: the runs of a chain, and children, belong to one execution of the test.
 */
export function troubleWorkflows(world: World, gates: Gates) {
  const actOf =
    ({ run }: WorkflowContext, what: string) =>
    ({ idempotencyKey }: Pick<StepContext, 'idempotencyKey'>) =>
      world.act(run.namespace, idempotencyKey, what);

  const lazySteps = async (ctx: WorkflowContext) => {
    const [left, right] = await Promise.all([
      ctx.step('read left', () => 'l', { record: 'lazily' }),
      ctx.step('read right', async () => 'r', { record: 'lazily' }),
    ]);
    const both = await ctx.step('read both', () => left + right, { record: 'lazily' });
    return ctx.step('write', actOf(ctx, `wrote ${both}`));
  };

  /** The first attempt of the run mends the world and fails; the second one finds it mended. What was mended is taken back, and stays done. */
  const retriedRun = async (ctx: WorkflowContext) => {
    const { namespace } = ctx.run;
    try {
      return await ctx.step(
        'fickle',
        (step) => {
          if (!world.has(namespace, 'mended')) throw new Error('It is broken.');
          return actOf(ctx, 'fickle')(step);
        },
        ONCE,
      );
    } catch (error) {
      await ctx.step('mend', () => world.act(namespace, 'mended', 'mended'));
      throw error;
    }
  };

  const heldBack = async (ctx: WorkflowContext) => {
    await ctx.step('slow', async (step) => {
      await gates.pass(ctx.run.namespace);
      return actOf(ctx, 'slow')(step);
    });
    await ctx.step('after the pause', actOf(ctx, 'after the pause'));
  };

  const messages = async (ctx: WorkflowContext) => {
    const { workflowId } = ctx.run;
    const kept = await ctx.waitForSignal(late);
    await ctx.signalRun({ workflowId }, echo, 1);
    await ctx.publish(shipped, 'parcel', { key: workflowId });
    const heard = await ctx.waitForSignal(echo);
    const event = await ctx.waitForEvent(shipped, { key: workflowId, since: '1 day' });
    const skipped = await ctx.waitForSignal(approval);
    return actOf(
      ctx,
      `heard ${kept}, ${heard}, ${event} and ${skipped}`,
    )(await ctx.step('key', ({ idempotencyKey }) => ({ idempotencyKey })));
  };

  /** A booking, and what undoes it. */
  const book = async (
    ctx: WorkflowContext,
    saga: Pick<WorkflowContext, 'onCompensate'>,
    what: string,
    { failures = 0, parallel = false } = {},
  ) => {
    await ctx.step(`book ${what}`, actOf(ctx, `booked ${what}`));
    const undo = (step: StepContext) => {
      if (step.countedAttempt <= failures) throw new Error('Busy.');
      actOf(ctx, `cancelled ${what}`)(step);
    };
    saga.onCompensate(what, undo, { ...FAST, parallel });
  };

  /** Undoes what it has done when it fails, as a run of its own. */
  const subcontract = workflow('subcontract', async (ctx) => {
    await book(ctx, ctx, 'crane');
    throw new TerminalError('The crane is too small.');
  });

  const sagas = async (ctx: WorkflowContext) => {
    await book(ctx, ctx, 'draft');
    await ctx.compensate();
    await book(ctx, ctx, 'flight', { failures: 2 });
    await ctx
      .saga(async (outer) => {
        await book(ctx, outer, 'boat', { parallel: true });
        await outer.saga((inner) => book(ctx, inner, 'cabin', { parallel: true }));
        throw new TerminalError('There is a storm.');
      })
      .catch(() => undefined);
    await book(ctx, ctx, 'hotel', { parallel: true });
    await book(ctx, ctx, 'car', { parallel: true });
    const failed = await ctx.child(subcontract).catch((error: Error) => error.name);
    await ctx.step('tell', actOf(ctx, `told of ${failed}`));
    ctx.onCompensate('stubborn', () => Promise.reject(new TerminalError('No refunds.')), ONCE);
    throw new TerminalError('It cannot be done.');
  };

  const trouble = workflow(
    'trouble',
    { retry: { maxAttempts: 2, initial: '1 minute' } },
    async (ctx, isSecond: boolean) => {
      ctx.setState(isSecond ? 'second' : 'first');
      if (isSecond) {
        await messages(ctx);
        return sagas(ctx);
      }
      await lazySteps(ctx);
      await retriedRun(ctx);
      await heldBack(ctx);
      return ctx.continueAsNew(true);
    },
  );
  return { trouble, subcontract };
}

/** A run that is cancelled while it waits for a child and a timer: its clean-up and its compensations run, and its child ends too. */
export function abandonedWorkflow(world: World) {
  const actOf =
    ({ run }: WorkflowContext, what: string) =>
    ({ idempotencyKey }: Pick<StepContext, 'idempotencyKey'>) =>
      world.act(run.namespace, idempotencyKey, what);
  const patient = workflow('patient', async (ctx) => {
    try {
      await ctx.waitForSignal('never');
    } finally {
      await ctx.uncancellable(() => ctx.step('leave', actOf(ctx, 'left')));
    }
  });
  const call = activity('call', (run: string, step) => void world.act(run, step.idempotencyKey, 'called'));
  const abandoned = workflow('abandoned', async (ctx) => {
    await ctx.step('reserve', actOf(ctx, 'reserved'));
    ctx.onCompensate('reserve', actOf(ctx, 'released'), FAST);
    try {
      await Promise.all([ctx.child(patient, undefined, { parentClose: 'cancel' }), ctx.sleep('long', '1000 days')]);
    } finally {
      await ctx.uncancellable(async () => {
        await ctx.sleep('calm down', '1 minute');
        await ctx.call(call, ctx.run.namespace);
      });
    }
  });
  return { abandoned, patient, call };
}
