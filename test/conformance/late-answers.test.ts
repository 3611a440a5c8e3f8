import { Worker, type WorkerOptions, workflow } from '@perdure/worker-sdk';
import { pino } from 'pino';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gate, type Hold, holdAnswers } from '../support/held-answers.js';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { CLOCK_MOVING_REAPER, endSleep } from '../support/sleepers.js';
import { until } from '../support/until.js';

describe('answers that come late', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { ...CLOCK_MOVING_REAPER, reclaimBackoffMs: 50 } });
  });
  afterAll(() => perdure.stop());

  /** A worker that hears late, with what it logs. */
  const startStalled = async (options: Omit<WorkerOptions, 'connection' | 'logger'>, hold: Hold) => {
    const lines: string[] = [];
    const worker = new Worker({
      leaseDuration: '1s',
      handleSignals: false,
      ...options,
      connection: holdAnswers(perdure.connection, hold),
      logger: pino({ level: 'debug' }, { write: (line: string) => lines.push(line) }),
    });
    await worker.start();
    return { worker, logged: (event: string) => lines.filter((line) => line.includes(`"event":"${event}"`)) };
  };

  it('a run whose poll was answered later than its lease lasts starts only when it is still held', async () => {
    const taskQueue = `q-${uuid()}`;
    const bodies: string[] = [];
    const charge = (who: string) =>
      workflow('charge', async (ctx, id: string) => {
        await ctx.step('charge', () => bodies.push(`${who} ${id}`));
        return who;
      });
    const stall = gate();
    const held: string[] = [];
    const stalled = await startStalled(
      { taskQueue, workflows: [charge('stalled')], concurrency: 1 },
      {
        async pollActivity({ runs }) {
          held.push(...runs.map(({ runId }) => runId));
          if (runs.length > 0) await stall.opened;
        },
      },
    );
    const first = await perdure.client.start(charge('stalled'), 'first', { taskQueue });
    await until('the answer to be on its way', () => held.includes(first.runId));
    const other = await perdure.startWorker({ taskQueue, workflows: [charge('other')] });
    expect(await first.result({ timeout: '20s' })).toBe('other');
    await other.shutdown();
    stall.open();
    const second = await perdure.client.start(charge('stalled'), 'second', { taskQueue });
    expect(await second.result({ timeout: '20s' })).toBe('stalled');
    expect(bodies).toEqual(['other first', 'stalled second']);
    expect(stalled.logged('lease_lost')).toEqual([]);
    await stalled.worker.shutdown(0);
  });

  it('a run that arrives late but is still held starts after a renewal, with the cancel that the renewal reports', async () => {
    const taskQueue = `q-${uuid()}`;
    const stall = gate();
    const seen: string[] = [];
    const definition = workflow('late', async (ctx) => {
      try {
        await ctx.sleep('10m');
      } catch (error) {
        seen.push((error as Error).name);
        throw error;
      }
    });
    let held = 0;
    // Nobody takes the lease away: there is no reaper for that within so long a grace.
    const patient = await startPerdure({ reaper: { serverGraceMs: 600_000, maxSleepMs: 50 } });
    const worker = new Worker({
      taskQueue,
      workflows: [definition],
      leaseDuration: '1s',
      handleSignals: false,
      logger: pino({ level: 'silent' }),
      connection: holdAnswers(patient.connection, {
        async pollActivity({ runs }) {
          held += runs.length;
          if (runs.length > 0) await stall.opened;
        },
      }),
    });
    await worker.start();
    const handle = await patient.client.start(definition, undefined, { taskQueue });
    await until('the answer to be on its way', () => held === 1);
    await handle.cancel('enough');
    await until('the lease to be over', async () => {
      const rows = await patient.database.sql<{ over: boolean }[]>`select lease_expires_at < perdure.clock() as over
        from perdure.workflow_runs where run_id = ${handle.runId}`;
      return rows[0]?.over;
    });
    stall.open();
    await expect(handle.result({ timeout: '20s' })).rejects.toThrow('enough');
    expect(seen).toEqual(['CancelledError']);
    expect((await patient.workflows.getRun({ runId: handle.runId })).run?.leaseToken).toBe(1);
    await worker.shutdown(0);
    await patient.stop();
  });

  it.each(['signal', 'cancel', 'termination'])(
    'a %s whose notice overtakes the claim is not left to a heartbeat',
    async (kind) => {
      const taskQueue = `q-${uuid()}`;
      let began = 0;
      const definition = workflow('waits', async (ctx) => {
        began++;
        const gone = ctx.waitForSignal('go');
        await ctx.waitForSignal('ready');
        // While a body runs, the worker makes no call about the run from which it would learn.
        return Promise.race([gone, ctx.step('long', () => never.opened)]);
      });
      const next = workflow('next', async () => 'next');
      const stall = gate();
      const never = gate();
      const claimed: number[] = [];
      let noticed = 0;
      const { worker } = await startStalled(
        { taskQueue, workflows: [definition, next], concurrency: 1, warmRuns: 0, leaseDuration: '10m' },
        {
          async pollActivity({ runs }) {
            claimed.push(...runs.map(({ leaseToken }) => leaseToken));
            if (claimed.includes(2)) await stall.opened;
          },
          async awaitNotices({ arrived, cancelRequested, lost }) {
            noticed += [...arrived, ...cancelRequested, ...lost].filter(({ leaseToken }) => leaseToken === 2).length;
          },
          recordHeartbeat: () => never.opened,
        },
      );
      const run = await perdure.client.start(definition, undefined, { taskQueue });
      await until('the run to wait', async () => (await run.get()).status === 'WAITING');
      await run.signal('ready');
      await until('the claim to be on its way', () => claimed.includes(2));
      if (kind === 'signal') await run.signal('go', 'gone');
      else if (kind === 'cancel') await run.cancel('enough');
      else await run.terminate('enough');
      await until('the notice to have come', () => noticed > 0);
      stall.open();
      if (kind === 'signal') expect(await run.result({ timeout: '20s' })).toBe('gone');
      else await expect(run.result({ timeout: '20s' })).rejects.toThrow('enough');
      // The slot is free again, and nothing is executed under a lease that ended before it came.
      expect(await perdure.client.execute(next, undefined, { taskQueue, timeout: '20s' })).toBe('next');
      if (kind === 'termination') expect(began).toBe(1);
      never.open();
      await worker.shutdown(0);
    },
  );

  it('a run in memory continues only when it is still held, even when a cancel arrives with the same answers', async () => {
    const taskQueue = `q-${uuid()}`;
    const bodies: string[] = [];
    const napper = (who: string) =>
      workflow('napper', async (ctx) => {
        try {
          await ctx.sleep('nap', '1h');
          await ctx.sleep('10m');
        } finally {
          await ctx.uncancellable(() => ctx.step('clean up', () => bodies.push(who)));
        }
      });
    const stall = gate();
    const tokens: number[] = [];
    const stalled = await startStalled(
      { taskQueue, workflows: [napper('stalled')], warmRuns: 10, concurrency: 1 },
      {
        async pollActivity({ runs }) {
          tokens.push(...runs.map(({ leaseToken }) => leaseToken));
          if (tokens.length > 1 && runs.length > 0) await stall.opened;
        },
        awaitNotices: async ({ cancelRequested }) => {
          if (cancelRequested.length > 0) await stall.opened;
        },
      },
    );
    const handle = await perdure.client.start(napper('stalled'), undefined, { taskQueue });
    await endSleep(perdure, handle.runId);
    await until('the run to come back', () => tokens.length === 2);
    await handle.cancel('enough');
    const other = await perdure.startWorker({ taskQueue, workflows: [napper('other')] });
    await expect(handle.result({ timeout: '20s' })).rejects.toThrow('enough');
    await other.shutdown();
    stall.open();
    await until('the stalled worker to have a free slot', () => stalled.worker.running === 0);
    await perdure.client.start(napper('stalled'), undefined, { taskQueue });
    await until('the stalled worker to work again', () => tokens.length > 2);
    expect(bodies).toEqual(['other']);
    await stalled.worker.shutdown(0);
  });

  it('a heartbeat that finds a run completed before the worker knows it reports no lost lease', async () => {
    const taskQueue = `q-${uuid()}`;
    const definition = workflow('quick', async () => 'done');
    const stall = gate();
    const renewals: boolean[] = [];
    const slow = await startStalled(
      { taskQueue, workflows: [definition] },
      {
        completeWorkflow: () => stall.opened,
        async recordHeartbeat({ leases }) {
          renewals.push(...leases.map(({ renewed }) => renewed));
        },
      },
    );
    expect(await perdure.client.execute(definition, undefined, { taskQueue, timeout: '20s' })).toBe('done');
    await until('a heartbeat to find the lease gone', () => renewals.includes(false));
    stall.open();
    await until('the slot to be free', () => slow.worker.running === 0);
    expect(slow.logged('lease_lost')).toEqual([]);
    await slow.worker.shutdown(0);
  });

  it('details of any number and size do not keep a lease from being renewed, and all of them arrive', async () => {
    const taskQueue = `q-${uuid()}`;
    const calls = gate();
    const details = [1, 2, 3, 4].map((n) => `${n}`.repeat(1_500_000));
    const definition = workflow('reporting', async (ctx) => {
      const bodies = details.map((detail, n) =>
        ctx.step(`body ${n}`, async (step) => {
          step.heartbeat(detail);
          await calls.opened;
        }),
      );
      await Promise.all(bodies);
      return 'done';
    });
    let renewed = 0;
    const reporting = await startStalled(
      { taskQueue, workflows: [definition], leaseDuration: '3s' },
      {
        async recordHeartbeat({ leases }) {
          renewed += leases.length;
        },
      },
    );
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await until('all details to be recorded', async () => {
      const rows = await perdure.database.sql<{ n: number }[]>`select count(*)::int as n from perdure.step_runs
        where run_id = ${handle.runId} and length(heartbeat) > 1500000`;
      return rows[0]?.n === 4;
    });
    const before = renewed;
    await until('further renewals', () => renewed >= before + 3);
    calls.open();
    expect(await handle.result({ timeout: '20s' })).toBe('done');
    expect((await perdure.workflows.getRun({ runId: handle.runId })).run?.leaseToken).toBe(1);
    expect(reporting.logged('lease_lost')).toEqual([]);
    await reporting.worker.shutdown(0);
  });

  it('a detail that is too large fails its step and nothing else: the leases of all runs are renewed', async () => {
    const taskQueue = `q-${uuid()}`;
    const others = gate();
    const definition = workflow('boasting', async (ctx, boast: boolean) => {
      await ctx.step(
        'body',
        async (step) => {
          if (boast) step.heartbeat('x'.repeat(3_000_000));
          await others.opened;
        },
        { retry: { maxAttempts: 1 } },
      );
      return 'done';
    });
    let renewed = 0;
    const worker = await startStalled(
      { taskQueue, workflows: [definition] },
      {
        async recordHeartbeat({ leases }) {
          renewed += leases.filter((lease) => lease.renewed).length;
        },
      },
    );
    const modest = await perdure.client.start(definition, false, { taskQueue });
    await expect(perdure.client.execute(definition, true, { taskQueue, timeout: '20s' })).rejects.toThrow(/3000/);
    const before = renewed;
    await until('further renewals', () => renewed >= before + 3);
    others.open();
    expect(await modest.result({ timeout: '20s' })).toBe('done');
    expect(worker.logged('heartbeat_failed')).toEqual([]);
    await worker.worker.shutdown(0);
  });

  it('a cancel that comes before the history reaches the code behind all that is in it', async () => {
    const taskQueue = `q-${uuid()}`;
    const seen: string[][] = [];
    const definition = workflow('long history', async (ctx) => {
      const order: string[] = [];
      seen.push(order);
      ctx.signal.addEventListener('abort', () => order.push('cancel'));
      // More than one page.
      for (const name of ['a', 'b', 'c']) {
        await ctx.step(name, () => 'x'.repeat(600_000));
        order.push(name);
      }
      await ctx.sleep('nap', 500);
      order.push('nap');
      await ctx.step('last', () => undefined);
    });
    const first = await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await until('the run to sleep', async () => (await handle.get()).status === 'SLEEPING');
    await first.shutdown();
    let isAsked = false;
    const history = gate();
    const { worker } = await startStalled(
      { taskQueue, workflows: [definition], leaseDuration: '30s' },
      {
        getMemo() {
          isAsked = true;
          return history.opened;
        },
        async awaitNotices({ cancelRequested }) {
          if (cancelRequested.length > 0) setImmediate(history.open);
        },
      },
    );
    await until('the history to be asked for', () => isAsked);
    await handle.cancel();
    await expect(handle.result({ timeout: '20s' })).rejects.toThrow('cancelled');
    expect(seen[1]).toEqual(['a', 'b', 'c', 'nap', 'cancel']);
    await worker.shutdown(0);
  });
});
