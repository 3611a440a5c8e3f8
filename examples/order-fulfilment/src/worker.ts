/** A worker process: `node dist/worker.js`, with PERDURE_ADDRESS and GATEWAY_FILE in the environment. */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'perdure';
import { orderWorkflow, TASK_QUEUE } from './order-workflow.js';
import { PaymentGateway } from './payment-gateway.js';

const gateway = new PaymentGateway(process.env.GATEWAY_FILE ?? join(tmpdir(), 'perdure-example-payments.jsonl'));
const worker = new Worker({
  taskQueue: TASK_QUEUE,
  workflows: [orderWorkflow(gateway)],
  // Short, so that the demo need not wait long for the run of a killed worker. The default is 30 s.
  leaseDuration: '2s',
});
await worker.run();
