import { StepStatus } from '@perdure/proto';
import {
  type Compensation,
  CompensationError,
  type RetryPolicy,
  type RunSummary,
  TerminalError,
  type WorkflowContext,
  WorkflowFailedError,
  workflow,
} from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gate } from '../support/held-answers.js';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { until } from '../support/until.js';

const once = { retry: { maxAttempts: 1 } } as const;
const atOnce = { retry: { maxAttempts: 3, initial: '1 ms' } } as const;

describe('sagas', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 50, reclaimBackoffMs: 0, maxReclaimBackoffMs: 0 } });
  });
  afterAll(() => perdure.stop());

  const describeRun = (handle: { get(): Promise<RunSummary> }) => handle.get();
  const newQueue = () => `q-${uuid()}`;
  const start = async (code: (ctx: WorkflowContext) => Promise<unknown>, retry?: RetryPolicy) => {
    const taskQueue = newQueue();
    const definition = workflow('saga', retry === undefined ? {} : { retry }, code);
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    return perdure.client.start(definition, { taskQueue });
  };
  const failureOf = async (code: (ctx: WorkflowContext) => Promise<unknown>, retry?: RetryPolicy) => {
    const handle = await start(code, retry);
    const error: unknown = await handle.result({ timeout: '20s' }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(WorkflowFailedError);
    return { handle, error: error as WorkflowFailedError };
  };
  const stepsOf = async (runId: string) =>
    (await perdure.workflows.getHistory({ runId })).steps
      .filter(({ isLatest }) => isLatest)
      .map(({ stepId, status }) => `${stepId} ${StepStatus[status]}`);
  const listed = async (compensation: Compensation, runId: string) => {
    const found: string[] = [];
    for await (const run of perdure.client.list({ compensation })) found.push(run.runId);
    return found.includes(runId);
  };
  const book = async (ctx: WorkflowContext, effects: string[], name: string) => {
    await ctx.step(name, () => void effects.push(name));
    ctx.onCompensate(name, () => void effects.push(`undo ${name}`));
  };

  it('compensates in reverse order when the run fails, and says what', async () => {
    const effects: string[] = [];
    const { handle, error } = await failureOf(async (ctx) => {
      await book(ctx, effects, 'flight');
      await book(ctx, effects, 'hotel');
      await ctx.step('car', () => Promise.reject(new TerminalError('no car')));
    });
    expect(effects).toEqual(['flight', 'hotel', 'undo hotel', 'undo flight']);
    expect(error).toMatchObject({
      stepId: 'car',
      compensation: { status: 'COMPLETE', compensated: ['compensate:hotel', 'compensate:flight'], failed: [] },
    });
    expect(error.message).toContain('no car; compensated: compensate:hotel, compensate:flight');
    expect(await describeRun(handle)).toMatchObject({ status: 'FAILED', compensation: 'COMPLETE' });
    expect(await stepsOf(handle.runId)).toEqual([
      'flight COMPLETED',
      'hotel COMPLETED',
      'car FAILED',
      'compensate:hotel COMPLETED',
      'compensate:flight COMPLETED',
    ]);
    expect(await listed('COMPLETE', handle.runId)).toBe(true);
    expect(await listed('PARTIAL', handle.runId)).toBe(false);
  });

  it('is COMPENSATING meanwhile, tries again what fails, and shows it in lists and counts', async () => {
    const effects: string[] = [];
    const release = gate();
    let tries = 0;
    const handle = await start(async (ctx) => {
      await ctx.step('flight', () => undefined);
      ctx.onCompensate(
        'flight',
        async () => {
          tries++;
          await release.opened;
          if (tries < 3) throw new Error('not yet');
          effects.push('undo');
        },
        atOnce,
      );
      throw new TerminalError('boom');
    });
    await until('it happens', async () => (await describeRun(handle)).compensation === 'COMPENSATING');
    expect(await listed('COMPENSATING', handle.runId)).toBe(true);
    expect((await perdure.workflows.countRuns({ compensation: 1 })).total).toBeGreaterThan(0n);
    const { explanation } = await perdure.workflows.describeRun({ runId: handle.runId });
    expect(explanation).toContain('its compensations run');
    release.open();
    await expect(handle.result({ timeout: '20s' })).rejects.toMatchObject({ compensation: { status: 'COMPLETE' } });
    expect([tries, effects]).toEqual([3, ['undo']]);
    expect(await listed('COMPENSATING', handle.runId)).toBe(false);
  });

  it('continues when a compensation has used up its tries, and is PARTIAL', async () => {
    const effects: string[] = [];
    const { handle, error } = await failureOf(async (ctx) => {
      await book(ctx, effects, 'flight');
      await ctx.step('hotel', () => undefined);
      ctx.onCompensate('hotel', () => Promise.reject(new Error('hotel is closed')), once);
      await book(ctx, effects, 'car');
      throw new TerminalError('boom');
    });
    expect(effects).toEqual(['flight', 'car', 'undo car', 'undo flight']);
    expect(error.compensation).toMatchObject({
      status: 'PARTIAL',
      compensated: ['compensate:car', 'compensate:flight'],
      failed: [{ stepId: 'compensate:hotel', error: { message: 'hotel is closed' } }],
    });
    expect(error.message).toContain("not compensated: 'compensate:hotel' (hotel is closed)");
    expect(error.cause.message).toBe('boom');
    expect(await describeRun(handle)).toMatchObject({ status: 'FAILED', compensation: 'PARTIAL' });
    expect(await listed('PARTIAL', handle.runId)).toBe(true);
    expect((await perdure.workflows.describeRun({ runId: handle.runId })).explanation).toContain(
      'Not everything that it had done was compensated',
    );
  });

  it('compensates a run that is cancelled, and cancels of the compensations change nothing', async () => {
    const effects: string[] = [];
    const release = gate();
    const handle = await start(async (ctx) => {
      await book(ctx, effects, 'flight');
      ctx.onCompensate('slow', async ({ signal }) => {
        await release.opened;
        effects.push(`aborted ${signal.aborted}`);
      });
      await ctx.sleep('1 day');
    });
    await until('it happens', async () => (await describeRun(handle)).status === 'SLEEPING');
    await handle.cancel('changed my mind');
    await until('it happens', async () => (await describeRun(handle)).compensation === 'COMPENSATING');
    await handle.cancel('again');
    release.open();
    await expect(handle.result({ timeout: '20s' })).rejects.toMatchObject({ name: 'WorkflowCancelledError' });
    expect(effects).toEqual(['flight', 'aborted false', 'undo flight']);
    expect(await describeRun(handle)).toMatchObject({ status: 'CANCELLED', compensation: 'COMPLETE' });
  });

  it('fails a cancelled run that could not be compensated', async () => {
    const handle = await start(async (ctx) => {
      ctx.onCompensate('flight', () => Promise.reject(new Error('no answer')), once);
      await ctx.sleep('1 day');
    });
    await until('it happens', async () => (await describeRun(handle)).status === 'SLEEPING');
    await handle.cancel();
    await expect(handle.result({ timeout: '20s' })).rejects.toMatchObject({
      name: 'WorkflowFailedError',
      cause: { name: 'CompensationError', message: "1 of 1 compensations failed: 'compensate:flight' (no answer)." },
      compensation: { status: 'PARTIAL' },
    });
    expect(await describeRun(handle)).toMatchObject({ status: 'FAILED', compensation: 'PARTIAL' });
  });

  it('a cancel while a failed run is compensated does not turn it into a cancelled one', async () => {
    const release = gate();
    const handle = await start(async (ctx) => {
      ctx.onCompensate('flight', () => release.opened);
      throw new TerminalError('boom');
    });
    await until('it happens', async () => (await describeRun(handle)).compensation === 'COMPENSATING');
    await handle.cancel();
    release.open();
    await expect(handle.result({ timeout: '20s' })).rejects.toMatchObject({ cause: { message: 'boom' } });
    expect(await describeRun(handle)).toMatchObject({ status: 'FAILED', compensation: 'COMPLETE' });
  });

  it('does not compensate before another attempt of the run, only after the last one', async () => {
    const effects: string[] = [];
    let tries = 0;
    const { handle } = await failureOf(
      async (ctx) => {
        await book(ctx, effects, 'flight');
        await ctx.step('car', () => Promise.reject(new Error(`no car ${++tries}`)), once);
      },
      { maxAttempts: 3, initial: '1 ms' },
    );
    expect([tries, effects]).toEqual([3, ['flight', 'undo flight']]);
    expect(await describeRun(handle)).toMatchObject({ attempt: 3, compensation: 'COMPLETE' });
  });

  it('runs parallel compensations together, and the others one by one', async () => {
    const together = gate();
    const begun: string[] = [];
    const { error } = await failureOf(async (ctx) => {
      ctx.onCompensate('first', () => void begun.push('first'));
      for (const name of ['a', 'b', 'c']) {
        ctx.onCompensate(
          name,
          async () => {
            begun.push(name);
            if (begun.length === 4) together.open();
            await together.opened;
          },
          { parallel: true },
        );
      }
      ctx.onCompensate('last', () => void begun.push('last'));
      throw new TerminalError('boom');
    });
    expect(begun).toEqual(['last', 'c', 'b', 'a', 'first']);
    expect(error.compensation?.compensated).toHaveLength(5);
  });

  it('compensates by hand; afterwards nothing is registered', async () => {
    const effects: string[] = [];
    const handle = await start(async (ctx) => {
      await book(ctx, effects, 'flight');
      try {
        await ctx.step('hotel', () => Promise.reject(new TerminalError('full')));
      } catch {
        await ctx.compensate();
        await ctx.compensate();
      }
      await book(ctx, effects, 'train');
      return 'went by train';
    });
    expect(await handle.result({ timeout: '20s' })).toBe('went by train');
    expect(effects).toEqual(['flight', 'undo flight', 'train']);
    expect(await describeRun(handle)).toMatchObject({ status: 'COMPLETED', compensation: undefined });
  });

  it('by hand, says what failed and tries it again when the run fails', async () => {
    let tries = 0;
    let seen: unknown;
    const { error } = await failureOf(async (ctx) => {
      ctx.onCompensate(
        'flight',
        () => {
          if (++tries === 1) throw new Error('busy');
        },
        once,
      );
      try {
        await ctx.compensate();
      } catch (thrown) {
        seen = thrown;
      }
      throw new TerminalError('boom');
    });
    expect(seen).toBeInstanceOf(CompensationError);
    expect(seen).toMatchObject({ failed: [{ stepId: 'compensate:flight' }], cause: { message: 'busy' } });
    expect([tries, error.compensation]).toEqual([
      2,
      { status: 'COMPLETE', compensated: ['compensate:flight#2'], failed: [] },
    ]);
  });

  it('a run that has compensated by hand is not retried from before that', async () => {
    const effects: string[] = [];
    const { handle } = await failureOf(
      async (ctx) => {
        await book(ctx, effects, 'flight');
        try {
          await ctx.step('hotel', () => Promise.reject(new Error('full')), once);
        } catch (thrown) {
          await ctx.compensate();
          throw thrown;
        }
      },
      { maxAttempts: 3, initial: '1 ms' },
    );
    expect(effects).toEqual(['flight', 'undo flight']);
    expect(await describeRun(handle)).toMatchObject({ attempt: 1, compensation: 'COMPLETE' });
  });

  it('a saga compensates just its own, and rethrows', async () => {
    const effects: string[] = [];
    const handle = await start(async (ctx) => {
      await book(ctx, effects, 'outer');
      const problem = await ctx
        .saga(async (inner) => {
          await ctx.step('flight', () => void effects.push('flight'));
          inner.onCompensate('flight', () => void effects.push('undo flight'));
          await inner.saga(async (innermost) => {
            await ctx.step('meal', () => void effects.push('meal'));
            innermost.onCompensate('meal', () => void effects.push('undo meal'));
          });
          throw new TerminalError('no seat');
        })
        .catch((error: Error) => error.message);
      return problem;
    });
    expect(await handle.result({ timeout: '20s' })).toBe('no seat');
    expect(effects).toEqual(['outer', 'flight', 'meal', 'undo meal', 'undo flight']);
  });

  it('what a saga has done belongs to the run when it returns', async () => {
    const effects: string[] = [];
    await failureOf(async (ctx) => {
      await book(ctx, effects, 'before');
      await ctx.saga(async (inner) => inner.onCompensate('inner', () => void effects.push('undo inner')));
      await book(ctx, effects, 'after');
      throw new TerminalError('boom');
    });
    expect(effects).toEqual(['before', 'after', 'undo after', 'undo inner', 'undo before']);
  });

  it('a saga waits for its steps under way and undoes them too; nothing else begins in it', async () => {
    const effects: string[] = [];
    const slow = gate();
    let refused: unknown;
    const handle = await start(async (ctx) => {
      await ctx
        .saga(async (trip) => {
          const flight = async () => {
            await ctx.step('flight', () => slow.opened);
            trip.onCompensate('flight', () => void effects.push('undo flight'));
            await ctx
              .step('seat', () => void effects.push('seat'))
              .catch((error: unknown) => {
                refused = error;
              });
          };
          const hotel = async () => {
            await ctx.step('hotel', () => Promise.reject(new TerminalError('full')));
          };
          await Promise.all([flight(), hotel()]);
        })
        .catch(() => effects.push('caught'));
    });
    await until('it happens', async () => (await stepsOf(handle.runId)).includes('hotel FAILED'));
    slow.open();
    await handle.result({ timeout: '20s' });
    expect(effects).toEqual(['undo flight', 'caught']);
    expect(String(refused)).toContain("'seat' was called after its saga had failed");
  });

  it('undoes what was under way when the code failed, also in a saga that has not ended', async () => {
    const effects: string[] = [];
    const slow = gate();
    const handle = await start(async (ctx) => {
      ctx.onCompensate('first', () => void effects.push('undo first'));
      const flight = async () => {
        await ctx.step('flight', () => slow.opened);
        ctx.onCompensate('flight', () => void effects.push('undo flight'));
        await ctx.step('seat', () => void effects.push('seat'));
      };
      const stay = ctx.saga(async (inner) => {
        inner.onCompensate('stay', () => void effects.push('undo stay'));
        await ctx.sleep('1 day');
      });
      await Promise.all([flight(), stay, Promise.reject(new TerminalError('boom'))]);
    });
    await until('it happens', () => effects.length === 2);
    slow.open();
    await expect(handle.result({ timeout: '20s' })).rejects.toMatchObject({ compensation: { status: 'COMPLETE' } });
    expect(effects).toEqual(['undo stay', 'undo first', 'undo flight']);
  });

  it('waits for the steps of a saga that has not ended, also when nothing is registered yet', async () => {
    const effects: string[] = [];
    const slow = gate();
    const handle = await start(async (ctx) => {
      const flight = ctx.saga(async (trip) => {
        await ctx.step('flight', () => slow.opened);
        trip.onCompensate('flight', () => void effects.push('undo flight'));
      });
      await Promise.all([flight, Promise.reject(new TerminalError('boom'))]);
    });
    await until('it is compensated', async () => (await describeRun(handle)).compensation === 'COMPENSATING');
    slow.open();
    await expect(handle.result({ timeout: '20s' })).rejects.toMatchObject({
      compensation: { status: 'COMPLETE', compensated: ['compensate:flight'] },
    });
    expect(effects).toEqual(['undo flight']);
  });

  it('an output that cannot be encoded is compensated too', async () => {
    const effects: string[] = [];
    await failureOf(async (ctx) => {
      await book(ctx, effects, 'flight');
      return () => undefined;
    });
    expect(effects).toEqual(['flight', 'undo flight']);
  });

  it('sleeps between the tries of a compensation, and neither timeout ends it then', async () => {
    let tries = 0;
    const taskQueue = newQueue();
    const definition = workflow('timeouts', async (ctx) => {
      ctx.onCompensate(
        'flight',
        () => {
          if (++tries === 1) throw new Error('busy');
        },
        { retry: { maxAttempts: 2, initial: '1 hour', max: '1 hour' } },
      );
      throw new TerminalError('boom');
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, {
      taskQueue,
      runTimeout: '1 day',
      executionTimeout: '1 day',
    });
    await until('it happens', async () => (await describeRun(handle)).status === 'SLEEPING');
    const { sql } = perdure.database;
    const [row] = await sql`select deadline_at, compensation from perdure.workflow_runs where run_id = ${handle.runId}`;
    expect(row).toEqual({ deadline_at: null, compensation: 'COMPENSATING' });
    await sql`update perdure.step_runs set next_retry_at = perdure.clock() where run_id = ${handle.runId} and is_latest
      and next_retry_at is not null`;
    await sql`update perdure.workflow_runs set wake_at = perdure.clock() where run_id = ${handle.runId} and status = 'SLEEPING'`;
    await until('it happens', async () => {
      const [now] = await sql`select deadline_at, status from perdure.workflow_runs where run_id = ${handle.runId}`;
      expect(now?.deadline_at).toBeNull();
      return now?.status === 'FAILED';
    });
    expect(tries).toBe(2);
  });

  it('is PARTIAL when it is terminated meanwhile', async () => {
    const release = gate();
    const handle = await start(async (ctx) => {
      ctx.onCompensate('flight', () => release.opened);
      throw new TerminalError('boom');
    });
    await until('it happens', async () => (await describeRun(handle)).compensation === 'COMPENSATING');
    await handle.terminate('now');
    expect(await describeRun(handle)).toMatchObject({ status: 'TERMINATED', compensation: 'PARTIAL' });
    release.open();
  });

  it('a run that was compensated is not retried: a retry would rely on what is undone', async () => {
    const { handle } = await failureOf(async (ctx) => {
      ctx.onCompensate('flight', () => undefined);
      throw new TerminalError('boom');
    });
    await expect(handle.retry()).rejects.toMatchObject({ status: 'FAILED_PRECONDITION' });
    expect(await describeRun(handle)).toMatchObject({ status: 'FAILED', compensation: 'COMPLETE' });
  });

  it('refuses what it cannot use, naming it', async () => {
    const problems: string[] = [];
    const handle = await start(async (ctx) => {
      const trial = async (work: () => unknown) => {
        try {
          await work();
        } catch (error) {
          problems.push((error as Error).message);
        }
      };
      const undo = () => undefined;
      await trial(() => ctx.onCompensate('', undo));
      await trial(() => ctx.onCompensate('x'.repeat(190), undo));
      await trial(() => ctx.onCompensate('x#2', undo));
      await trial(() => ctx.onCompensate('x', 1 as never));
      await trial(() => ctx.onCompensate('x', undo, { paralel: true } as never));
      await trial(() => ctx.onCompensate('x', undo, { parallel: 1 } as never));
      await trial(() => ctx.onCompensate('x', undo, { timeout: 0 }));
      await trial(() => ctx.onCompensate('x', undo, { retry: { maxAttempts: 0 } }));
      await trial(() => ctx.saga(1 as never));
      await trial(() => ctx.saga(async () => undefined, { parallel: 'yes' } as never));
      await ctx.step('body', async () => {
        await trial(() => ctx.onCompensate('y', undo));
        await trial(() => ctx.compensate());
        await trial(() => ctx.saga(async () => undefined));
      });
    });
    await handle.result({ timeout: '20s' });
    expect(problems).toEqual([
      expect.stringContaining("A compensation's name"),
      expect.stringContaining('1 to 189 bytes'),
      expect.stringContaining('must not end with #'),
      "Compensation 'x' needs a function; got number.",
      expect.stringContaining('paralel'),
      expect.stringContaining('parallel must be true or false'),
      expect.stringContaining('timeout'),
      expect.stringContaining('maxAttempts'),
      'A saga needs a function; got number.',
      expect.stringContaining('parallel must be true or false'),
      expect.stringContaining("onCompensate('y') was called inside the body of step 'body'"),
      expect.stringContaining("compensate was called inside the body of step 'body'"),
      expect.stringContaining("saga was called inside the body of step 'body'"),
    ]);
  });
});
