// A client, as your web application would be one: starts a run and waits for its result. Needs a server and a worker.
import { Client } from 'perdure';
import { greeting, TASK_QUEUE } from './greeting.js';

const client = new Client();
try {
  const text = await client.execute(greeting, { name: process.argv[2] ?? 'world' }, { taskQueue: TASK_QUEUE });
  console.log(text);
} finally {
  client.close();
}
