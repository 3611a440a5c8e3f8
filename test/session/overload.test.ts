import type { RpcError } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { begin, fenceOf, payload, refusal, registerRawWorker, startRequest } from '../support/raw-worker.js';
import { until } from '../support/until.js';

const MIB = 1024 * 1024;

describe('a server with more calls than its queues hold', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ server: { maxQueuedCommands: 100, maxQueuedBytes: 8 * MIB } });
  });
  afterAll(() => perdure.stop());

  /** Nothing is written to runs or steps until `release` is called. */
  const blocked = async () => {
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    let ended: Promise<unknown> = Promise.resolve();
    await new Promise<void>((resolve) => {
      ended = perdure.database.sql.begin(async (sql) => {
        await sql`lock table perdure.workflow_runs in exclusive mode`;
        resolve();
        await gate;
      });
    });
    return {
      waiting: (statement: string, count: number) =>
        until(`${count} statements ${statement} to wait`, async () => {
          const [row] = await perdure.database.sql`select count(*)::int as n from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock' and query like ${`%perdure:${statement} %`}`;
          return row?.n >= count;
        }),
      release: async () => {
        open();
        await ended;
      },
    };
  };

  it('a server with a full queue answers each of 9,000 commands of one run once, and continues', async () => {
    const worker = await registerRawWorker(perdure, `q-${uuid()}`);
    await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
    const run = await worker.claim();
    const { waiting, release } = await blocked();
    const calls: Promise<unknown>[] = [];
    // Another kind is under way for the run, and the queue of completions is full of other runs.
    calls.push(perdure.workers.beginStep(begin(run, 'first')));
    await waiting('begin_steps', 1);
    const others = (count: number) => {
      for (let n = 0; n < count; n++) {
        const lease = { runId: uuid(), leaseToken: 1 };
        calls.push(perdure.workers.completeStep({ ...lease, stepId: 's', attemptNumber: 1, eventSeq: 1 }));
      }
    };
    others(1);
    await waiting('complete_steps', 1);
    others(50);
    await waiting('complete_steps', 2);
    others(101);
    expect(await refusal(Promise.all(calls))).toMatchObject({ reason: 'OVERLOADED' });
    for (let n = 0; n < 9_000; n++) {
      calls.push(perdure.workers.completeStep({ ...fenceOf(run), stepId: `c${n}`, attemptNumber: 1, eventSeq: n + 1 }));
    }
    // A further kind waits behind them.
    calls.push(perdure.workers.beginStep(begin(run, 'last', { seq: 2 })));
    const settled = Promise.allSettled(calls);
    await release();
    const outcomes = await settled;
    const reasons = outcomes.map((outcome) =>
      outcome.status === 'rejected' ? (outcome.reason as RpcError).reason : 'answered',
    );
    const count = (reason: string) => reasons.filter((candidate) => candidate === reason).length;
    expect(count('answered')).toBe(2);
    expect(count('RUN_NOT_FOUND')).toBe(151);
    expect(count('OVERLOADED') + count('STEP_NOT_FOUND')).toBe(9_001);
    await perdure.workers.completeWorkflow(fenceOf(run));
    expect((await perdure.workflows.getRun({ runId: run.runId })).run?.finishedAt).toBeDefined();
  });

  it('an overloaded server starts all runs of a batch or none', async () => {
    const taskQueue = `q-${uuid()}`;
    const batch = (size: number) =>
      perdure.workflows.startWorkflows({ runs: Array.from({ length: size }, () => startRequest({ taskQueue })) });
    const outcomes = await Promise.allSettled([40, 40, 40, 40, 40].map(batch));
    const started = outcomes.filter(({ status }) => status === 'fulfilled').length;
    const { total } = await perdure.workflows.countRuns({ taskQueue });
    expect(Number(total)).toBe(started * 40);
    expect(started).toBeGreaterThan(0);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ reason: 'OVERLOADED' });
    }
    // More than the queue ever holds is taken when nothing else waits.
    expect((await batch(150)).outcomes).toHaveLength(150);
  });

  it('commands beyond the limit of queued bytes are refused, the others are carried out, and later ones are accepted', async () => {
    const taskQueue = `q-${uuid()}`;
    const input = payload('x'.repeat(1.5 * MIB));
    const start = () => perdure.workflows.startWorkflow(startRequest({ taskQueue, input }));
    const { release } = await blocked();
    const refused: RpcError[] = [];
    const calls = Array.from({ length: 12 }, () => start().catch((error: RpcError) => refused.push(error)));
    await until('7 of 12 to be refused', () => (refused.length === 7 ? true : undefined));
    await release();
    await Promise.all(calls);
    expect(refused).toHaveLength(7);
    for (const error of refused) {
      expect(error).toMatchObject({ status: 'RESOURCE_EXHAUSTED', reason: 'OVERLOADED', retryAfterMs: 250 });
      expect(error.message).toMatch(
        /overloaded: its queue of StartWorkflow commands is full \(100 commands or 8 MiB\)/,
      );
    }
    expect(Number((await perdure.workflows.countRuns({ taskQueue })).total)).toBe(5);
    await Promise.all([start(), start(), start()]);
  });
});
