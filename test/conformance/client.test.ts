import { createServer, type Socket } from 'node:net';
import {
  AwaitTimeoutError,
  Client,
  Connection,
  PayloadTooLargeError,
  RpcError,
  type StartOptions,
  Worker,
  workflow,
} from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { startTcpProxy } from '../support/tcp-proxy.js';

const hello = workflow('hello', async (_, name: string) => `hello ${name}`);
const session = process.env.PERDURE_TEST_UNARY !== '1';

/** A port that nobody listens on. */
async function freeAddress(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return `127.0.0.1:${port}`;
}

async function failing(work: Promise<unknown>): Promise<{ error: Error; tookMs: number }> {
  const beganMs = performance.now();
  const error = await work.then(
    () => new Error('It did not fail.'),
    (thrown: Error) => thrown,
  );
  return { error, tookMs: performance.now() - beganMs };
}

describe('a client without a server', () => {
  const connect = (address: string) => {
    const lines: string[] = [];
    const connection = new Connection({ address, session });
    const logger = { warn: (line: { message: string }) => lines.push(line.message) } as never;
    return { lines, connection, client: new Client({ connection, logger }) };
  };

  it('a client without a server says once where it looked and what to start, and ends with the same sentence within its timeout', async () => {
    const address = await freeAddress();
    const { client, connection, lines } = connect(address);
    const { error, tookMs } = await failing(client.execute(hello, 'you', { taskQueue: 'q', timeout: '3s' }));
    expect(error).toBeInstanceOf(RpcError);
    expect(error.message).toBe(
      `No Perdure server answers at ${address} (connect ECONNREFUSED ${address}). Start one with \`perdure dev\`, or set the address or PERDURE_ADDRESS.`,
    );
    expect((error as RpcError).status).toBe('UNAVAILABLE');
    // It gives up when the next pause, of at most 2 s, would end too late.
    expect(tookMs).toBeGreaterThan(1_000);
    expect(tookMs).toBeLessThan(10_000);
    expect(lines).toEqual([error.message]);
    connection.close();
  });

  it('a client whose packets are swallowed ends within its timeout', async () => {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => sockets.add(socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = `127.0.0.1:${(server.address() as { port: number }).port}`;
    const { client, connection } = connect(address);
    // A large input raises the question how large it may be; that must not take longer either.
    const { error, tookMs } = await failing(
      client.execute(hello, 'x'.repeat(300_000), { taskQueue: 'q', timeout: '2s' }),
    );
    expect(error).toBeInstanceOf(RpcError);
    expect(error.message).toContain(address);
    expect(tookMs).toBeGreaterThan(1_900);
    expect(tookMs).toBeLessThan(10_000);
    connection.close();
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });

  it.each([
    ['http://127.0.0.1:7301', '127.0.0.1:7301'],
    ['https://perdure.example.com/', 'perdure.example.com:7300'],
    ['localhost', 'localhost:7300'],
    ['127.0.0.1:7300,db', 'db:7300'],
    ['::1', '[::1]:7300'],
  ])('a client refuses the address %s at once and suggests %s', (address, suggestion) => {
    expect(() => new Client({ address })).toThrow(`Did you mean "${suggestion}"?`);
  });

  it.each(['', 'a b:1', 'host:0', 'host:70000'])('a client refuses the address %j', (address) => {
    expect(() => new Connection({ address })).toThrow(/must be host:port/);
  });

  it('a closed client says that it was closed, for later and for open calls', async () => {
    const client = new Client({ address: await freeAddress() });
    const underWay = failing(client.start(hello, 'x', { taskQueue: 'q' }));
    client.close();
    for (const { error } of [await underWay, await failing(client.get({ runId: uuid() }))]) {
      expect(error.message).toMatch(/was closed by close\(\)/);
      expect((error as RpcError).status).toBe('CANCELLED');
    }
  });
});

describe('a client', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 50 } });
  });
  afterAll(() => perdure.stop());

  it.each([3, 5])('a client refuses an input of %s MiB before it is sent', async (mib) => {
    const { error, tookMs } = await failing(
      perdure.client.start(hello, 'x'.repeat(mib * 1024 * 1024), { taskQueue: 'q' }),
    );
    expect(error).toBeInstanceOf(PayloadTooLargeError);
    expect(error.message).toBe(
      `The input of workflow 'hello' has ${mib * 1024 * 1024 + 2} bytes; the server accepts 2097152. Keep it elsewhere and pass a reference.`,
    );
    expect(tookMs).toBeLessThan(5_000);
  });

  it('the error is the same when the server refuses the size, for any limit', async () => {
    const server = await perdure.startServer({ maxPayloadBytes: 2_048 });
    const connection = new Connection({ address: server.grpcAddress, session });
    const client = new Client({ connection });
    for (const start of [
      client.start(hello, 'x'.repeat(10_000), { taskQueue: 'q' }),
      client.execute(hello, 'x'.repeat(10_000), { taskQueue: 'q' }),
    ]) {
      const { error } = await failing(start);
      expect(error).toBeInstanceOf(PayloadTooLargeError);
      expect(error.message).toContain("The input of workflow 'hello' has 10002 bytes");
    }
    connection.close();
  });

  it('a client never repeats a message that is too large for gRPC itself', async () => {
    const { error, tookMs } = await failing(
      perdure.workflows.startWorkflow({
        workflowType: 'x',
        taskQueue: 'q',
        input: { data: new Uint8Array(5_000_000), encoding: 'bytes' },
      }),
    );
    expect((error as RpcError).status).toBe('RESOURCE_EXHAUSTED');
    expect((error as RpcError).isTransient).toBe(false);
    expect(tookMs).toBeLessThan(5_000);
  });

  it.each([
    [{ workflowID: 'x' }, "no option 'workflowID'; did you mean 'workflowId'?"],
    [{ retries: 3 }, "no option 'retries'. Expected one of: taskQueue"],
    [{ timeout: '1s' }, "no option 'timeout'"],
    [{ taskQueue: '' }, 'taskQueue must be a string of 1 to 255 bytes'],
    [{ workflowId: '' }, 'workflowId must be a string of 1 to 255 bytes'],
    [{ workflowId: 'a\nb' }, 'without control characters'],
    [{ requestId: 'x'.repeat(256) }, 'requestId must be a string of 1 to 255 bytes'],
    [{ reusePolicy: 'rejected' }, 'reusePolicy cannot be "rejected"; did you mean \'reject\'?'],
    [{ reusePolicy: 'toString' }, 'Expected one of: allow, allow-if-failed, reject, terminate-existing.'],
    [{ priority: 101 }, 'priority must be a whole number from -100 to 100; got 101.'],
    [{ priority: 1.5 }, 'priority'],
    [{ maxLostLeases: 0 }, 'maxLostLeases must be a whole number from 1 to 1,000; got 0.'],
    [{ startDelay: 'soon' }, 'startDelay must be'],
    [{ runTimeout: -1 }, 'runTimeout must be'],
  ])('a client refuses the start options %j', async (options, message) => {
    const { error } = await failing(
      perdure.client.start(hello, 'you', { taskQueue: 'q', ...options } as unknown as StartOptions),
    );
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toContain(message);
  });

  it('unknown options of a client, a list and a result are refused', async () => {
    expect(() => new Client({ adress: 'x' } as never)).toThrow(
      "A client has no option 'adress'; did you mean 'address'?",
    );
    const list = async (options: object) => {
      for await (const run of perdure.client.list(options)) expect(run).toBeDefined();
    };
    expect((await failing(list({ taskqueue: 'q' }))).error.message).toContain("did you mean 'taskQueue'?");
    expect((await failing(list({ status: 'failed' }))).error.message).toContain("did you mean 'FAILED'?");
    const { error } = await failing(perdure.client.handle(uuid()).result({ timeOut: 1 } as never));
    expect(error.message).toContain("did you mean 'timeout'?");
  });

  it.each([[], ['you']])('a start says what is missing when the options are: %j', async (...given) => {
    const start = perdure.client.start as (...all: unknown[]) => Promise<unknown>;
    const { error } = await failing(start.call(perdure.client, hello, ...given));
    expect(error.message).toContain('must be an object with a taskQueue');
  });

  it('the workflow id is the request id when none is given', async () => {
    const requestId = uuid();
    const handle = await perdure.client.start(hello, 'you', { taskQueue: 'q', requestId });
    expect(handle.workflowId).toBe(requestId);
  });

  it('a workflow without input is started without one', async () => {
    const taskQueue = `q-${uuid()}`;
    const answer = workflow('answer', async () => 42);
    await perdure.startWorker({ taskQueue, workflows: [answer, hello] });
    const options = { taskQueue };
    expect(await perdure.client.execute(answer, { taskQueue, timeout: '20s' })).toBe(42);
    expect(await (await perdure.client.start(answer, options)).result({ timeout: '20s' })).toBe(42);
    expect(await perdure.client.execute(answer, undefined, { taskQueue, timeout: '20s' })).toBe(42);
    const [handle] = await perdure.client.startMany(answer, [{ options }]);
    expect(handle).toHaveProperty('runId');
    // @ts-expect-error hello has an input
    const { error } = await failing(perdure.client.start(hello, 7, options));
    expect(error.message).toBe('It did not fail.');
  });

  it('the reason of one refused start of many is the one that the server sent', async () => {
    const workflowId = uuid();
    const first = await perdure.client.start(hello, 'one', { taskQueue: 'q', workflowId });
    const [refused] = await perdure.client.startMany(hello, [
      { input: 'two', options: { taskQueue: 'q', workflowId } },
    ]);
    expect(refused).toMatchObject({
      status: 'ALREADY_EXISTS',
      reason: 'WORKFLOW_ALREADY_EXISTS',
      metadata: { run_id: first.runId },
    });
    const elsewhere = new Client({ connection: perdure.connection, namespace: 'nowhere' });
    const [lost] = await elsewhere
      .startMany(hello, [{ input: 'x', options: { taskQueue: 'q' } }])
      .catch((error: RpcError) => [error]);
    expect(lost).toMatchObject({ status: 'NOT_FOUND', reason: 'NAMESPACE_NOT_FOUND' });
  });

  it('a wait that is aborted rejects with the reason of the signal', async () => {
    const handle = await perdure.client.start(hello, 'you', { taskQueue: `q-${uuid()}` });
    const controller = new AbortController();
    const waiting = failing(handle.result({ signal: controller.signal }));
    const executing = failing(
      perdure.client.execute(hello, 'you', { taskQueue: `q-${uuid()}`, signal: controller.signal }),
    );
    const reason = new Error('The customer left.');
    controller.abort(reason);
    expect((await waiting).error).toBe(reason);
    expect((await executing).error).toBe(reason);
    expect((await failing(handle.result({ signal: controller.signal }))).error).toBe(reason);
  });

  it('a timeout names the run that continues, even when the server is stopped meanwhile', async () => {
    const proxy = await startTcpProxy(perdure.server.grpcAddress);
    const connection = new Connection({ address: proxy.address, session });
    const client = new Client({ connection, logger: { warn: () => undefined } as never });
    const handle = await client.start(hello, 'you', { taskQueue: `q-${uuid()}`, workflowId: 'the-order' });
    const first = await failing(handle.result({ timeout: 200 }));
    expect(first.error).toBeInstanceOf(AwaitTimeoutError);
    expect(first.error.message).toBe(
      `Workflow 'hello' (id 'the-order', run ${handle.runId}) did not end within 200 ms; it continues.`,
    );
    proxy.blackHole = true;
    const second = await failing(handle.result({ timeout: 1_000 }));
    expect(second.error).toBeInstanceOf(AwaitTimeoutError);
    expect(second.error.cause).toBeInstanceOf(RpcError);
    expect(second.tookMs).toBeLessThan(3_500);
    connection.close();
    await proxy.close();
  });

  it('a worker refuses a value that is not a workflow', () => {
    const options = { taskQueue: 'q', connection: perdure.connection };
    expect(() => new Worker({ ...options, workflows: [(async () => 1) as never] })).toThrow(
      /workflows\[0\] is a function.*workflow\('name', async \(ctx, input\) => …\)/,
    );
    expect(() => new Worker({ ...options, workflows: [{} as never] })).toThrow(/workflows\[0\]/);
  });
});
