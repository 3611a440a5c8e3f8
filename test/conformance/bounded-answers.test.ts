import { randomBytes } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import * as grpc from '@grpc/grpc-js';
import {
  GetRunRequestSchema,
  GetRunResponseSchema,
  type SessionAnswer,
  SessionRequestSchema,
  SessionResponseSchema,
  StepKind,
} from '@perdure/proto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { fenceOf, registerRawWorker, startRequest } from '../support/raw-worker.js';
import { until } from '../support/until.js';

const MIB = 1024 * 1024;

describe('answers are bounded in bytes', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
  });
  afterAll(() => perdure.stop());

  const input = { data: randomBytes(MIB), encoding: 'x' };
  const sessionClient = () => new grpc.Client(perdure.server.grpcAddress, grpc.credentials.createInsecure());
  const openSession = (client: grpc.Client) =>
    client.makeBidiStreamRequest(
      '/perdure.v1.SessionService/Session',
      (bytes: Buffer) => bytes,
      (bytes: Buffer) => bytes,
      new grpc.Metadata(),
    );
  const getRuns = (runId: string, callIds: readonly number[]) => {
    const request = toBinary(GetRunRequestSchema, create(GetRunRequestSchema, { runId }));
    const calls = callIds.map((callId) => ({ callId, method: 'WorkflowService/GetRun', request }));
    return Buffer.from(toBinary(SessionRequestSchema, create(SessionRequestSchema, { calls })));
  };
  const numbers = (count: number) => Array.from({ length: count }, (_, n) => n + 1);

  it('a session whose peer reads gets every answer, however large they are together', async () => {
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ input }));
    const client = sessionClient();
    const stream = openSession(client);
    const answers: SessionAnswer[] = [];
    stream.on('data', (bytes: Buffer) => {
      for (const answer of fromBinary(SessionResponseSchema, bytes).answers) {
        if (answer.outcome.case === 'response') {
          const { run } = fromBinary(GetRunResponseSchema, answer.outcome.value);
          expect(run?.input?.data.byteLength).toBe(MIB);
        }
        answers.push({ ...answer, outcome: { case: answer.outcome.case } } as never);
      }
    });
    stream.write(getRuns(runId, numbers(100)));
    await until('all answers', () => answers.length === 100, 25_000);
    expect(answers.map(({ outcome }) => outcome.case)).toEqual(numbers(100).map(() => 'response'));
    stream.end();
    client.close();
  }, 60_000);

  it('a page of a history with payloads carries some megabytes at most, and the pages together carry everything', async () => {
    const worker = await registerRawWorker(perdure, 'histories');
    await perdure.workflows.startWorkflow(startRequest({ taskQueue: 'histories' }));
    const run = await worker.claim();
    const output = { data: randomBytes(MIB), encoding: 'x' };
    for (const seq of numbers(10)) {
      const step = { ...fenceOf(run), stepId: `s${seq}`, attemptNumber: 1 };
      await perdure.workers.beginStep({ ...step, seq, kind: StepKind.FUNCTION, countedAttempt: 1 });
      await perdure.workers.completeStep({ ...step, output, eventSeq: seq });
    }
    const pages: string[][] = [];
    let pageToken = '';
    do {
      const { runId } = run;
      const page = await perdure.workflows.getHistory({ runId, pageSize: 1_000, pageToken, includePayloads: true });
      pages.push(page.steps.map(({ stepId }) => stepId));
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    expect(pages.flat()).toEqual(numbers(10).map((n) => `s${n}`));
    expect(pages.map(({ length }) => length)).toEqual([4, 4, 2]);
    const { steps, nextPageToken } = await perdure.workflows.getHistory({ runId: run.runId, pageSize: 10 });
    expect([steps.length, nextPageToken]).toEqual([10, '']);
  }, 60_000);

  it('a run with hundreds of long failures can be claimed again, and its memo comes in pages', async () => {
    const worker = await registerRawWorker(perdure, 'failures');
    await perdure.workflows.startWorkflow(startRequest({ taskQueue: 'failures' }));
    const run = await worker.claim();
    // Compresses well: what is stored says nothing about what is sent.
    const failure = { type: 'Error', message: 'long '.repeat(12_800) };
    for (const seq of numbers(300)) {
      const step = { ...fenceOf(run), stepId: `s${seq}`, attemptNumber: 1 };
      await perdure.workers.beginStep({ ...step, seq, kind: StepKind.FUNCTION, countedAttempt: 1 });
      await perdure.workers.failStep({ ...step, failure, eventSeq: seq });
    }
    await perdure.workers.releaseRun({ ...fenceOf(run), reason: 'test' });
    const again = await worker.claim();
    let steps = again.memo.length;
    expect(steps).toBeGreaterThan(1);
    expect(steps).toBeLessThan(30);
    for (let token = again.nextMemoToken; token !== ''; ) {
      const page = await perdure.workers.getMemo({ ...fenceOf(again), pageToken: token });
      expect(page.memo.length).toBeLessThan(30);
      steps += page.memo.length;
      token = page.nextMemoToken;
    }
    expect(steps).toBe(300);
  }, 60_000);
});
