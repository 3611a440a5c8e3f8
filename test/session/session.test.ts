import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import * as grpc from '@grpc/grpc-js';
import {
  BeginStepRequestSchema,
  CompleteStepRequestSchema,
  PollActivityRequestSchema,
  type SessionAnswer,
  SessionRequestSchema,
  SessionResponseSchema,
  StepKind,
  WorkerService,
  WorkflowService,
} from '@perdure/proto';
import { Client, Connection, Worker, type WorkerOptions, workflow } from '@perdure/worker-sdk';
import { pino } from 'pino';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { settled } from '../support/manual-clock.js';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { fenceOf, registerRawWorker, startRequest } from '../support/raw-worker.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

const PATH = '/perdure.v1.SessionService/Session';

describe('sessions', () => {
  let perdure: TestPerdure;
  let client: grpc.Client;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 50 } });
    client = new grpc.Client(perdure.server.grpcAddress, grpc.credentials.createInsecure());
  });
  afterAll(async () => {
    client.close();
    await perdure.stop();
  });

  const open = () => {
    const answers: SessionAnswer[] = [];
    const state = { ended: undefined as string | undefined };
    const stream = client.makeBidiStreamRequest(
      PATH,
      (bytes: Buffer) => bytes,
      (bytes: Buffer) => bytes,
      new grpc.Metadata(),
    );
    stream.on('data', (bytes: Buffer) => answers.push(...fromBinary(SessionResponseSchema, bytes).answers));
    stream.on('error', (error: grpc.ServiceError) => {
      state.ended = grpc.status[error.code];
    });
    stream.on('end', () => {
      state.ended ??= 'END';
    });
    const send = (...calls: { callId: number; method: string; request: Uint8Array }[]) =>
      stream.write(Buffer.from(toBinary(SessionRequestSchema, create(SessionRequestSchema, { calls }))));
    const answer = (callId: number) =>
      until(`answer ${callId}`, () => answers.find((candidate) => candidate.callId === callId));
    return { stream, answers, state, send, answer };
  };
  const leasedRun = async () => {
    const worker = await registerRawWorker(perdure, `q-${uuid()}`);
    await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
    return { worker, run: await worker.claim() };
  };
  const beginCall = (callId: number, run: { runId: string; leaseToken: number }, stepId = 's') => ({
    callId,
    method: 'WorkerService/BeginStep',
    request: toBinary(
      BeginStepRequestSchema,
      create(BeginStepRequestSchema, {
        ...fenceOf(run),
        stepId,
        seq: 1,
        kind: StepKind.FUNCTION,
        attemptNumber: 1,
        countedAttempt: 1,
      }),
    ),
  });
  const completeCall = (callId: number, run: { runId: string; leaseToken: number }, stepId = 's') => ({
    callId,
    method: 'WorkerService/CompleteStep',
    request: toBinary(
      CompleteStepRequestSchema,
      create(CompleteStepRequestSchema, {
        ...fenceOf(run),
        stepId,
        attemptNumber: 1,
        eventSeq: 1,
        output: { data: new Uint8Array([1]), encoding: 'x' },
      }),
    ),
  });

  it('commands of a run keep their order over all kinds, in one frame and in many', async () => {
    for (const frames of ['one', 'many']) {
      const { run } = await leasedRun();
      const session = open();
      const calls = [beginCall(1, run), completeCall(2, run)];
      if (frames === 'one') session.send(...calls);
      else for (const call of calls) session.send(call);
      expect((await session.answer(1)).outcome.case).toBe('response');
      expect((await session.answer(2)).outcome.case).toBe('response');
      session.stream.end();
      await until('the end', () => session.state.ended);
    }
  });

  it('frames that arrive twice, in another order and after a break change nothing twice', async () => {
    const { run } = await leasedRun();
    const first = open();
    first.send(beginCall(1, run), completeCall(2, run));
    await first.answer(2);
    first.stream.cancel();
    const second = open();
    second.send(completeCall(7, run), completeCall(8, run));
    second.send(beginCall(9, run));
    for (const callId of [7, 8]) expect((await second.answer(callId)).outcome.case).toBe('response');
    // A beginning after its completion is no new attempt.
    await second.answer(9);
    const { steps } = await perdure.workflows.getHistory({ runId: run.runId });
    expect(steps).toHaveLength(1);
    expect(steps[0]).toMatchObject({ attemptNumber: 1, status: 2 });
    second.stream.end();
  });

  it('a completion that overtook its beginning is refused, and nothing is recorded', async () => {
    const { run } = await leasedRun();
    const session = open();
    session.send(completeCall(1, run));
    const { outcome } = await session.answer(1);
    expect(outcome.case === 'error' && outcome.value.message).toContain("no attempt 1 of step 's'");
    expect((await perdure.workflows.getHistory({ runId: run.runId })).steps).toEqual([]);
    session.stream.end();
  });

  it('unknown methods, bad requests and repeated call ids are refused alone', async () => {
    const { worker } = await leasedRun();
    const session = open();
    const poll = (callId: number) => ({
      callId,
      method: 'WorkerService/PollActivity',
      request: toBinary(
        PollActivityRequestSchema,
        create(PollActivityRequestSchema, {
          workerId: worker.workerId,
          taskQueue: worker.taskQueue,
          wait: { seconds: 30n },
        }),
      ),
    });
    session.send(
      poll(1),
      { callId: 2, method: 'WorkerService/Nothing', request: new Uint8Array() },
      { callId: 3, method: 'WorkerService/CompleteStep', request: new Uint8Array([255, 255, 255]) },
      { callId: 4, method: 'WorkflowService/WatchRun', request: new Uint8Array() },
    );
    for (const callId of [2, 3, 4]) {
      const { outcome } = await session.answer(callId);
      expect(outcome.case === 'error' && outcome.value.code).toBe(grpc.status.INVALID_ARGUMENT);
    }
    session.send(poll(1));
    expect((await session.answer(1)).outcome.case).toBe('error');
    session.stream.cancel();
    // The poll ended with its session: the run goes to somebody who is there.
    await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
    expect((await worker.claim()).attempt).toBe(1);
  });

  it('a call is not given up because the process that made it stood still', async () => {
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue: `q-${uuid()}` }));
    const workflows = perdure.connection.service(WorkflowService);
    const standStill = (ms: number) => {
      for (const sinceMs = performance.now(); performance.now() - sinceMs < ms; );
    };
    const before = workflows.getRun({ runId }, { timeoutMs: 500 });
    await new Promise((resolve) => setImmediate(resolve));
    standStill(2_000);
    const after = workflows.getRun({ runId }, { timeoutMs: 500 });
    expect((await Promise.all([before, after])).map(({ run }) => run?.runId)).toEqual([runId, runId]);
  });

  it('a cancelled poll gets no run', async () => {
    const { worker } = await leasedRun();
    const session = open();
    session.send({
      callId: 1,
      method: 'WorkerService/PollActivity',
      request: toBinary(
        PollActivityRequestSchema,
        create(PollActivityRequestSchema, {
          workerId: worker.workerId,
          taskQueue: worker.taskQueue,
          wait: { seconds: 30n },
        }),
      ),
    });
    await worker.waiting();
    session.stream.write(
      Buffer.from(toBinary(SessionRequestSchema, create(SessionRequestSchema, { cancelledCallIds: [1] }))),
    );
    await session.answer(1);
    await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
    expect((await worker.claim()).leaseToken).toBe(1);
    session.stream.end();
  });

  it('a frame that is cut at any byte ends the session or is refused, and never more than that', async () => {
    const { run } = await leasedRun();
    const whole = Buffer.from(
      toBinary(SessionRequestSchema, create(SessionRequestSchema, { calls: [beginCall(1, run)] })),
    );
    for (let length = 0; length < whole.length; length++) {
      const session = open();
      session.stream.write(whole.subarray(0, length));
      session.stream.end();
      await until(`the end of a frame of ${length} bytes`, () => session.state.ended);
    }
    expect((await perdure.workflows.getHistory({ runId: run.runId })).steps).toEqual([]);
    const session = open();
    session.send(beginCall(1, run));
    expect((await session.answer(1)).outcome.case).toBe('response');
    session.stream.end();
  });

  const silent = pino({ level: 'silent' });
  interface Progress {
    bodies(): number;
    isOver(): boolean;
  }
  /** @param disturb told how many bodies were executed, and whether all runs have ended */
  const runThrough = async (address: string, disturb: (progress: Progress) => Promise<void>) => {
    const taskQueue = `q-${uuid()}`;
    const executed = new Map<string, number>();
    const definition = workflow('through', async (ctx, id: number) => {
      let sum = 0;
      for (let n = 0; n < 8; n++) {
        sum += await ctx.step('s', async ({ stepId }) => {
          executed.set(`${id} ${stepId}`, (executed.get(`${id} ${stepId}`) ?? 0) + 1);
          if (n % 3 === 0) await settled();
          return n;
        });
      }
      return sum;
    });
    const connection = new Connection({ address });
    const worker = new Worker({
      taskQueue,
      workflows: [definition],
      connection,
      leaseDuration: '2s',
      logger: silent,
      handleSignals: false,
    });
    await worker.start();
    const handles = await perdure.client.startMany(
      definition,
      Array.from({ length: 40 }, (_, id) => ({ input: id, options: { taskQueue } })),
    );
    const results = Promise.all(
      handles.map((handle) => ('result' in handle ? handle.result({ timeout: '60s' }) : Promise.reject(handle))),
    );
    let over = false;
    const end = () => {
      over = true;
    };
    void results.then(end, end);
    await disturb({ bodies: () => executed.size, isOver: () => over });
    expect(await results).toEqual(Array.from({ length: 40 }, () => 28));
    await worker.shutdown(0);
    connection.close();
    const [row] = await perdure.database.sql<{ bad: number }[]>`
      select count(*)::int as bad from (
        select s.run_id, s.step_id from perdure.step_runs s join perdure.workflow_runs r using (run_id) where r.task_queue = ${taskQueue}
        group by s.run_id, s.step_id
        having max(s.attempt_number) <> count(*) or count(*) filter (where s.is_latest) <> 1 or count(*) filter (where s.status = 'COMPLETED') <> 1
      ) broken`;
    expect(row?.bad).toBe(0);
    expect(executed.size).toBe(320);
  };

  it('connections that are cut after ever more bytes cost time, not results', async () => {
    const proxy = await startTcpProxy(perdure.server.grpcAddress);
    let bytes = 500;
    proxy.cutAfterBytes = bytes;
    await runThrough(proxy.address, async ({ isOver }) => {
      while (bytes < 40_000) {
        const { cuts } = proxy;
        await until('the next cut, or the end', () => proxy.cuts > cuts || isOver(), 60_000);
        bytes = Math.ceil(bytes * 1.17);
        proxy.cutAfterBytes = bytes;
      }
      proxy.cutAfterBytes = undefined;
    });
    expect(proxy.cuts).toBeGreaterThan(3);
    await proxy.close();
  }, 90_000);

  it('connections that are all cut at once, repeatedly, cost time, not results', async () => {
    const proxy = await startTcpProxy(perdure.server.grpcAddress);
    await runThrough(proxy.address, async ({ bodies, isOver }) => {
      for (let n = 0; n < 15; n++) {
        const before = bodies();
        await until('some more bodies, or the end', () => bodies() > before + 10 || isOver(), 60_000);
        proxy.cut();
      }
    });
    expect(proxy.cuts).toBeGreaterThan(3);
    await proxy.close();
  }, 90_000);

  /** At the server itself, whatever becomes of the client's way to it. */
  const startWorker = async (taskQueue: string, definition: WorkerOptions['workflows'][number]) => {
    const worker = new Worker({
      taskQueue,
      workflows: [definition],
      address: perdure.server.grpcAddress,
      logger: silent,
      handleSignals: false,
    });
    await worker.start();
    return worker;
  };

  it('an execute whose connection is cut starts one run only', async () => {
    const proxy = await startTcpProxy(perdure.server.grpcAddress);
    const taskQueue = `q-${uuid()}`;
    const definition = workflow('double', (ctx, n: number) =>
      ctx.step('s', async () => {
        await settled();
        return 2 * n;
      }),
    );
    const worker = await startWorker(taskQueue, definition);
    const client = new Client({ address: proxy.address });
    const numbers = Array.from({ length: 150 }, (_, n) => n);
    const executing: Promise<number>[] = [];
    let ended = 0;
    for (const n of numbers) {
      const result = client.execute(definition, n, { taskQueue, timeout: '60s' });
      executing.push(result.finally(() => ended++));
      if (n % 10 < 9) continue;
      // With some of the last ones under way, at any stage.
      await until('some of them to end', () => ended >= n - 5, 60_000);
      proxy.cut();
    }
    expect(await Promise.all(executing)).toEqual(numbers.map((n) => 2 * n));
    expect(proxy.cuts).toBeGreaterThan(3);
    const [row] = await perdure.database.sql<{ runs: number }[]>`
      select count(*)::int as runs from perdure.workflow_runs where task_queue = ${taskQueue}`;
    expect(row?.runs).toBe(150);
    client.close();
    await worker.shutdown(0);
    await proxy.close();
  }, 90_000);

  it('a server that goes down ends its sessions once their calls are answered, and workers go on elsewhere', async () => {
    const other = await perdure.startServer({ drainMs: 600_000 });
    await runThrough(`${other.grpcAddress},${perdure.server.grpcAddress}`, async ({ bodies }) => {
      await until('the runs to be under way', () => bodies() > 20);
      // Well within its drain time, which is longer than the test may take.
      await other.stop();
    });
  }, 90_000);

  it('an execute at a server that goes down is awaited at another', async () => {
    const other = await perdure.startServer({ drainMs: 600_000 });
    const taskQueue = `q-${uuid()}`;
    const client = new Client({ address: `${other.grpcAddress},${perdure.server.grpcAddress}` });
    const definition = workflow('later', (ctx, _: undefined) => ctx.step('s', () => 'done'));
    const result = client.execute(definition, undefined, { taskQueue, timeout: '30s' });
    await until('the run', async () => (await perdure.workflows.listRuns({ taskQueue })).runs.length === 1);
    // It does not wait for the run, which no worker has taken yet: the test would be over before its drain time is.
    await other.stop();
    const worker = await startWorker(taskQueue, definition);
    expect(await result).toBe('done');
    expect((await perdure.workflows.listRuns({ taskQueue })).runs).toHaveLength(1);
    client.close();
    await worker.shutdown(0);
  }, 60_000);

  it('clients and workers fall back to unary calls where streams are refused', async () => {
    const server = new grpc.Server();
    const refused: string[] = [];
    // A proxy that knows unary calls only: it passes them on and answers streams with UNIMPLEMENTED.
    const upstream = new grpc.Client(perdure.server.grpcAddress, grpc.credentials.createInsecure());
    const pass = (path: string) => ({
      path,
      requestStream: false,
      responseStream: false,
      requestSerialize: (bytes: Buffer) => bytes,
      requestDeserialize: (bytes: Buffer) => bytes,
      responseSerialize: (bytes: Buffer) => bytes,
      responseDeserialize: (bytes: Buffer) => bytes,
    });
    for (const service of [WorkflowService, WorkerService]) {
      const unary = service.methods.filter(({ methodKind }) => methodKind === 'unary');
      server.addService(
        Object.fromEntries(unary.map((method) => [method.localName, pass(`/${service.typeName}/${method.name}`)])),
        Object.fromEntries(
          unary.map((method) => [
            method.localName,
            (call: grpc.ServerUnaryCall<Buffer, Buffer>, callback: grpc.sendUnaryData<Buffer>) => {
              refused.push(method.name);
              upstream.makeUnaryRequest(
                `/${service.typeName}/${method.name}`,
                (bytes: Buffer) => bytes,
                (bytes: Buffer) => bytes,
                call.request,
                callback,
              );
            },
          ]),
        ),
      );
    }
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    await runThrough(`127.0.0.1:${port}`, async () => undefined);
    expect(refused).toContain('PollActivity');
    server.forceShutdown();
    upstream.close();
  }, 60_000);
});
