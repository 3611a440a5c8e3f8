// For development: Perdure with a PostgreSQL of its own, the worker and a first run, all in this process.
import { Client, Worker } from 'perdure';
import { devText, startDev, untilSignal } from 'perdure/dev';
import { greeting, TASK_QUEUE } from './greeting.js';

const signal = untilSignal();
const dev = await startDev({ dataFolder: '.perdure', onProgress: (what) => console.log(`${what} …`) });
console.log(devText(dev));

const worker = new Worker({
  address: dev.grpcAddress,
  taskQueue: TASK_QUEUE,
  workflows: [greeting],
  handleSignals: false,
});
await worker.start();

const client = new Client({ address: dev.grpcAddress });
const text = await client.execute(greeting, { name: 'world' }, { taskQueue: TASK_QUEUE });
console.log(`\nThe first run has completed with: ${text}\nStart another one: npm run greet -- Ada\n`);

await signal;
client.close();
await worker.shutdown();
await dev.stop();
