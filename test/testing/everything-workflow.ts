import {
  activity,
  event,
  signal,
  TerminalError,
  update,
  WorkerLostError,
  type WorkflowContext,
  workflow,
} from '@perdure/worker-sdk';
import type { World } from './world.js';

export const go = signal<number>('go');
export const add = update<number, number>('add');
export const opened = event<string>('opened');

const FAST = { retry: { maxAttempts: 3, initial: '10 minutes' } } as const;

/**
 * What a run does while all goes well, one feature after the other. To add one: a function with its steps below, and its line in the workflow; its effects go through `act`
 * with the step's idempotency key.
 */
export function everythingWorkflow(world: World) {
  const double = activity('double', ({ run, n }: { run: string; n: number }, step) => {
    world.act(run, step.idempotencyKey, `doubled ${n}`);
    return 2 * n;
  });

  const act = (ctx: WorkflowContext, step: { readonly idempotencyKey: string }, what: string) =>
    world.act(ctx.run.runId, step.idempotencyKey, what);

  const plainSteps = async (ctx: WorkflowContext) => {
    const one = await ctx.step('one', (step) => act(ctx, step, 'one'));
    const both = await Promise.all([
      ctx.step('left', async (step) => act(ctx, step, 'left')),
      ctx.step('right', (step) => act(ctx, step, 'right')),
    ]);
    return [one, ...both];
  };

  const retriedStep = (ctx: WorkflowContext) =>
    ctx.step(
      'flaky',
      (step) => {
        if (step.countedAttempt < 3) throw new Error(`no. ${step.countedAttempt}`);
        return act(ctx, step, 'flaky');
      },
      FAST,
    );

  const failingStep = async (ctx: WorkflowContext) => {
    try {
      await ctx.step('hopeless', () => {
        throw new TerminalError('It cannot be done.');
      });
      return 'done';
    } catch (error) {
      return ctx.step('instead', (step) => act(ctx, step, `instead: ${(error as Error).message}`));
    }
  };

  /** After a loss nobody knows whether it was executed: another step looks, and does what is missing. */
  const atMostOnceStep = async (ctx: WorkflowContext) => {
    const { runId } = ctx.run;
    try {
      await ctx.step('fax', () => world.act(runId, 'fax', 'fax'), { begin: 'durable', retry: { maxAttempts: 1 } });
    } catch (error) {
      if (!(error instanceof WorkerLostError)) throw error;
      await ctx.step('look for the fax', () => world.has(runId, 'fax') || world.act(runId, 'fax', 'fax'));
    }
    return 'faxed';
  };

  const waits = async (ctx: WorkflowContext) => {
    await ctx.sleep('cool-off', '3 days');
    const n = await ctx.waitForSignal(go);
    const late = await ctx.waitForSignal('never', { timeout: '2 hours' });
    const happened = await ctx.waitForEvent(opened, { key: 'door', since: '1 day' });
    const promised = ctx.promise<string>('answer');
    await ctx.step('ask', (step) => {
      world.promises.set(ctx.run.runId, promised.id);
      act(ctx, step, 'asked');
    });
    ctx.setState({ asks: promised.id.length });
    return [n, late, happened, await promised.result()];
  };

  const children = async (ctx: WorkflowContext) => {
    const run = ctx.run.runId;
    const one = await ctx.child(double, { run, n: 1 });
    const many = await ctx.map([2, 3], (n) => ctx.call(double, { run, n }, { name: `double ${n}`, taskQueue: 'math' }));
    return [one, ...many];
  };

  const everything = workflow('everything', async (ctx) => {
    let sum = 0;
    const added = new Promise<void>((resolve) => {
      ctx.handle(add, async (n) => {
        await ctx.step('added', (step) => act(ctx, step, `added ${n}`));
        sum += n;
        resolve();
        return sum;
      });
    });
    try {
      ctx.setState('begun');
      const steps = await plainSteps(ctx);
      const retried = await retriedStep(ctx);
      const failed = await failingStep(ctx);
      const fax = await atMostOnceStep(ctx);
      const waited = await waits(ctx);
      await added;
      const doubled = await children(ctx);
      return { steps, retried, failed, fax, waited, sum, doubled, id: ctx.uuid() };
    } finally {
      await ctx.uncancellable(async () => {
        await ctx.step('clean up', (step) => act(ctx, step, 'cleaned up'));
      });
      ctx.setState('ended');
    }
  });
  return { everything, double };
}
