import { Client, Worker } from 'perdure';
import { type Dev, startDev } from 'perdure/dev';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { greeting, TASK_QUEUE } from '../src/greeting.js';

let dev: Dev;
let worker: Worker;
let client: Client;

beforeAll(async () => {
  dev = await startDev({ ephemeral: true, grpcPort: 0, httpPort: 0 });
  const address = dev.grpcAddress;
  worker = new Worker({ address, taskQueue: TASK_QUEUE, workflows: [greeting], handleSignals: false });
  client = new Client({ address });
  await worker.start();
});

afterAll(async () => {
  client?.close();
  await worker?.shutdown();
  await dev?.stop();
});

it('greets the person it is given', async () => {
  expect(await client.execute(greeting, { name: 'Ada' }, { taskQueue: TASK_QUEUE })).toBe('Hello, Ada!');
});
