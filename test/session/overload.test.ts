import { StepKind } from '@perdure/proto';
import type { RpcError } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { fenceOf, payload, refusal, registerRawWorker, startRequest } from '../support/raw-worker.js';

const MIB = 1024 * 1024;

describe('a server with more calls than its queues hold', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ server: { maxQueuedCommands: 100, maxQueuedBytes: 8 * MIB } });
  });
  afterAll(() => perdure.stop());

  it('answers each of 9,000 commands of one run once, and goes on', async () => {
    const worker = await registerRawWorker(perdure, `q-${uuid()}`);
    await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
    const run = await worker.claim();
    const step = (stepId: string) => ({ ...fenceOf(run), stepId, attemptNumber: 1 });
    const calls: Promise<unknown>[] = [];
    // Another kind is under way first, and the queue of completions is full of other runs.
    for (let n = 0; n < 50; n++) {
      calls.push(
        perdure.workers.beginStep({ ...step(`b${n}`), seq: n + 1, kind: StepKind.FUNCTION, tryNumber: 1 }),
        perdure.workers.completeStep({ runId: uuid(), leaseToken: 1, stepId: 's', attemptNumber: 1, eventSeq: 1 }),
        perdure.workers.completeStep({ runId: uuid(), leaseToken: 1, stepId: 's', attemptNumber: 1, eventSeq: 1 }),
      );
    }
    for (let n = 0; n < 9_000; n++) calls.push(perdure.workers.completeStep({ ...step(`c${n}`), eventSeq: n + 1 }));
    const outcomes = await Promise.allSettled(calls);
    const reasons = new Set(
      outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [(outcome.reason as RpcError).reason] : [])),
    );
    expect(reasons).toEqual(new Set(['OVERLOADED', 'RUN_NOT_FOUND', 'STEP_NOT_FOUND']));
    await perdure.workers.completeWorkflow(fenceOf(run));
    expect((await perdure.workflows.getRun({ runId: run.runId })).run?.finishedAt).toBeDefined();
  });

  it('starts all runs of a batch or none', async () => {
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

  it('refuses what would queue more bytes than it may, and starts the rest', async () => {
    const taskQueue = `q-${uuid()}`;
    const input = payload('x'.repeat(1.5 * MIB));
    const outcomes = await Promise.allSettled(
      Array.from({ length: 40 }, () => perdure.workflows.startWorkflow(startRequest({ taskQueue, input }))),
    );
    const started = outcomes.filter(({ status }) => status === 'fulfilled').length;
    expect(started).toBeGreaterThanOrEqual(5);
    expect(Number((await perdure.workflows.countRuns({ taskQueue })).total)).toBe(started);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') {
        const error = await refusal(Promise.reject(outcome.reason));
        expect(error).toMatchObject({ status: 'RESOURCE_EXHAUSTED', reason: 'OVERLOADED' });
        expect(error.message).toMatch(
          /overloaded: its queue of StartWorkflow commands is full \(100 commands or 8 MiB\)/,
        );
        expect(error.retryAfterMs).toBe(250);
      }
    }
  });
});
