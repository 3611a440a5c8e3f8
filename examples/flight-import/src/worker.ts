/** A worker process: `node dist/worker.js`, with PERDURE_ADDRESS and FLIGHTS_DATABASE_URL in the environment. */
import { Worker } from 'perdure';
import { FlightTable } from './flight-table.js';
import { importWorkflow, TASK_QUEUE } from './import-workflow.js';

const url = process.env.FLIGHTS_DATABASE_URL;
if (url === undefined) throw new Error('Set FLIGHTS_DATABASE_URL to the database that receives the flights.');
const table = new FlightTable(url);
const worker = new Worker({
  taskQueue: TASK_QUEUE,
  workflows: [importWorkflow(table)],
  // Short, so that not much time is lost whenever a worker is killed. The default is 30 s.
  leaseDuration: '1s',
});
await worker.run();
await table.close();
