import { Client } from '@perdure/worker-sdk';
import { TASK_QUEUE } from '../lib/stack.mjs';
import { measure, steps } from './lib.mjs';

const client = new Client();
const name = { 1: 'one', 10: 'ten' }[steps];
await measure(() => client.execute(name, undefined, { taskQueue: TASK_QUEUE }));
client.close();
