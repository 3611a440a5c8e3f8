import { Client } from '@perdure/worker-sdk';
import { TASK_QUEUE } from '../lib/stack.mjs';
import { measure, measureFanout, steps } from './lib.mjs';

const client = new Client();
const name = { 1: 'one', 10: 'ten' }[steps];
const options = { taskQueue: TASK_QUEUE };
if (!(await measureFanout((count) => client.execute('fanout', count, options))))
  await measure(() => client.execute(name, undefined, options));
client.close();
