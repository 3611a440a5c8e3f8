/** A worker process: `node dist/worker.js`, with PERDURE_ADDRESS in the environment. */
import { Worker } from 'perdure';
import { cartWorkflow, TASK_QUEUE } from './cart-workflow.js';

const worker = new Worker({
  taskQueue: TASK_QUEUE,
  workflows: [cartWorkflow],
  // Short, so that the demo need not wait long for the run of a killed worker. The default is 30 s.
  leaseDuration: '2s',
});
await worker.run();
