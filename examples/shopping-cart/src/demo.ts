/**
 * Starts Perdure with an embedded PostgreSQL, fills a cart with updates, kills its worker between two of them, repeats an update as a
 * web page would after a lost answer, and pays.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Client, UpdateRefusedError } from 'perdure';
import { devText, startDev } from 'perdure/dev';
import { addItem, type Cart, cartWorkflow, checkout, removeItem, TASK_QUEUE, viewed } from './cart-workflow.js';

const say = (text: string) => process.stdout.write(`${text}\n`);
const shown = ({ status, items, cents }: Cart) =>
  `${items.map(({ sku, quantity }) => `${quantity} × ${sku}`).join(', ') || 'nothing'}: ${(cents / 100).toFixed(2)} (${status})`;

async function main(): Promise<void> {
  const dev = await startDev({ ephemeral: true, onProgress: (what) => say(`  ${what} …`) });
  say(devText(dev));
  const client = new Client({ address: dev.grpcAddress });
  const workers: ChildProcess[] = [];
  const startWorker = (): ChildProcess => {
    const child = spawn(process.execPath, [fileURLToPath(new URL('worker.js', import.meta.url))], {
      env: { ...process.env, PERDURE_ADDRESS: dev.grpcAddress, PERDURE_LOG_LEVEL: 'warn' },
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    workers.push(child);
    return child;
  };

  try {
    const first = startWorker();
    // A page is opened: the customer's cart is signalled, or started and signalled.
    const cart = await client.signalWithStart(cartWorkflow, undefined, viewed, undefined, {
      taskQueue: TASK_QUEUE,
      workflowId: 'cart-of-ada',
    });
    say(`\n  A teapot goes into the cart: ${shown(await cart.update(addItem, { sku: 'teapot', quantity: 1 }))}`);
    first.kill('SIGKILL');
    await once(first, 'exit');
    say(`  The worker was killed. The cart can be read without one: ${shown((await cart.state<Cart>()) as Cart)}`);
    startWorker();
    const requestId = 'click-17';
    say(`  Cups: ${shown(await cart.update(addItem, { sku: 'cup', quantity: 4 }, { requestId }))}`);
    const again = await cart.update(addItem, { sku: 'cup', quantity: 4 }, { requestId });
    say(`  The same click again, as after a lost answer: ${shown(again)}`);
    try {
      await cart.update(addItem, { sku: 'sofa', quantity: 1 });
    } catch (error) {
      if (!(error instanceof UpdateRefusedError)) throw error;
      say(`  ${error.message}`);
    }
    await cart.update(addItem, { sku: 'spoon', quantity: 2 });
    say(`  Spoons in and out: ${shown(await cart.update(removeItem, 'spoon'))}`);
    const { paymentId } = await cart.update(checkout, { card: '4242 4242 4242 4242' });
    const result = await cart.result({ timeout: '60s' });
    say(`  Paid with ${paymentId}: ${shown(result)}`);
    if (result.cents !== 7_300 || result.status !== 'paid') throw new Error('The demo did not end as it must.');
    say('\nEach update was carried out once, although the worker was killed and a click was sent twice.');
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

await main();
