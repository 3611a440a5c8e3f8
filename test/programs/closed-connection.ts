/** A program that closes the connection of its worker too early, and has more to do than that. */
import { Connection, Worker, workflow } from '@perdure/worker-sdk';

const say = (text: string) => console.log(text);
const connection = new Connection();
const worker = new Worker({
  taskQueue: process.env.QUEUE ?? 'q',
  workflows: [workflow('nothing', async () => undefined)],
  connection,
  handleSignals: false,
});
await worker.start();
process.on('SIGTERM', () => {
  say('told to go');
  process.exit(0);
});
setInterval(() => say('still turning'), 100);
connection.close();
await worker.run().catch((error: unknown) => say(`the worker ended: ${(error as Error).message}`));
