/**
 * Starts Perdure with an embedded PostgreSQL, runs an order, kills its worker while the card is being charged, lets another
 * worker continue, and shows what happened.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Client, type RunHandle } from 'perdure';
import { type Dev, devText, startDev, untilSignal } from 'perdure/dev';
import { type Fulfilment, type Order, orderWorkflow, TASK_QUEUE } from './order-workflow.js';
import { PaymentGateway } from './payment-gateway.js';

const order: Order = {
  orderId: '2026-0042',
  card: '4242 4242 4242 4242',
  items: [
    { sku: 'teapot', quantity: 1, cents: 3_900 },
    { sku: 'cup', quantity: 4, cents: 850 },
  ],
};

const say = (text: string) => process.stdout.write(`${text}\n`);

async function main(): Promise<void> {
  const dev = await startDev({ ephemeral: true, onProgress: (what) => say(`  ${what} …`) });
  say(devText(dev));
  const gatewayFile = join(dev.dataFolder, 'payments.jsonl');
  const gateway = new PaymentGateway(gatewayFile);
  const client = new Client({ address: dev.grpcAddress });
  const workers: ChildProcess[] = [];
  const startWorker = (name: string): ChildProcess => {
    const child = spawn(process.execPath, [fileURLToPath(new URL('worker.js', import.meta.url))], {
      env: { ...process.env, PERDURE_ADDRESS: dev.grpcAddress, GATEWAY_FILE: gatewayFile, PERDURE_LOG_LEVEL: 'warn' },
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    workers.push(child);
    say(`  ${name} started (process ${child.pid})`);
    return child;
  };

  try {
    say(`\nAn order of ${order.items.length} items comes in.\n`);
    const first = startWorker('Worker A');
    const handle = await client.start(orderWorkflow(gateway), order, {
      taskQueue: TASK_QUEUE,
      workflowId: 'order-2026-0042',
    });
    say(`  Run ${handle.runId} started`);
    while (gateway.bookings().length === 0) await delay(20);
    // The gateway takes 1.5 s to answer; kill the worker in the middle.
    await delay(500);
    first.kill('SIGKILL');
    await once(first, 'exit');
    say('  Worker A was killed (SIGKILL) while it charged the card: the money has moved, the result is not recorded');
    startWorker('Worker B');
    say('  Worker B continues once the lease of Worker A has expired (2 s) …');
    const result = await handle.result({ timeout: '60s' });
    say(`  Run COMPLETED\n\n${JSON.stringify(result, null, 2)}\n`);
    await showHistory(dev, handle);
    const bookings = gateway.bookings();
    say(
      `\nThe step 'charge card' was executed twice, and the card was charged ${bookings.length === 1 ? 'once' : `${bookings.length} times`}:`,
    );
    say('both executions had the same idempotency key.');
    if (bookings.length !== 1 || result.cents !== 7_300) throw new Error('The demo did not end as it must.');
    if (process.stdout.isTTY) await stay(dev);
  } finally {
    client.close();
    for (const worker of workers) worker.kill('SIGTERM');
    await Promise.all(
      workers
        .filter((worker) => worker.exitCode === null && worker.signalCode === null)
        .map((worker) => once(worker, 'exit')),
    );
    await dev.stop();
  }
}

async function showHistory(dev: Dev, handle: RunHandle<Fulfilment>): Promise<void> {
  await perdure(dev, ['run', 'history', handle.runId]);
}

/** The command line, as a user would call it. */
async function perdure(dev: Dev, args: readonly string[]): Promise<void> {
  const program = fileURLToPath(new URL('bin/perdure.js', import.meta.resolve('perdure/package.json')));
  const child = spawn(process.execPath, [program, ...args], {
    env: { ...process.env, PERDURE_ADDRESS: dev.grpcAddress },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  await once(child, 'exit');
}

async function stay(dev: Dev): Promise<void> {
  const address = dev.grpcAddress === '127.0.0.1:7300' ? '' : `PERDURE_ADDRESS=${dev.grpcAddress} `;
  say(`
Everything keeps running. In another terminal:

  ${address}npx perdure run list
  ${address}npx perdure run start fulfil-order -q ${TASK_QUEUE} --input '${JSON.stringify({ ...order, orderId: 'mine' })}'
  ${address}npx perdure run watch <run>
  kill -9 <a worker process>          … and see another worker continue the run

Ctrl-C stops it.`);
  await untilSignal();
}

await main();
