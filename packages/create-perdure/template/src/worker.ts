// A worker process. Run as many as you like, and stop them whenever you like: SIGTERM lets them finish first.
// PERDURE_ADDRESS says where the server is; default 127.0.0.1:7300.
import { Worker } from 'perdure';
import { greeting, TASK_QUEUE } from './greeting.js';

await new Worker({ taskQueue: TASK_QUEUE, workflows: [greeting] }).run();
