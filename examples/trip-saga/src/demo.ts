/**
 * Starts Perdure with an embedded PostgreSQL and books five trips: one that succeeds, one without a car, one whose hotel desk answers
 * only the third time, one whose hotel desk never answers, and one that is cancelled while its worker is replaced.
 */
import { Client, Worker, WorkflowCancelledError, WorkflowFailedError } from 'perdure';
import { startDev } from 'perdure/dev';
import { Agency } from './agency.js';
import { TASK_QUEUE, type Trip, tripWorkflow } from './trip-workflow.js';

const say = (text: string) => process.stdout.write(`${text}\n`);

async function main(): Promise<void> {
  const dev = await startDev({ ephemeral: true, onProgress: (what) => say(`  ${what} …`) });
  const client = new Client({ address: dev.grpcAddress });
  const agency = new Agency((what) => say(`  ${what}`));
  const trips = tripWorkflow(agency);
  const newWorker = async () => {
    const worker = new Worker({
      address: dev.grpcAddress,
      taskQueue: TASK_QUEUE,
      workflows: [trips],
      handleSignals: false,
    });
    await worker.start();
    return worker;
  };

  const start = (tripId: string, more: Partial<Trip> = {}) => {
    say(`\n${tripId}`);
    const trip = { tripId, failures: {}, confirmWithinMs: 0, ...more };
    return client.start(trips, trip, { taskQueue: TASK_QUEUE, workflowId: tripId });
  };
  const report = async (tripId: string, result: Promise<string>) => {
    try {
      say(`  ${await result}; booked: ${agency.booked(tripId).join(', ')}`);
    } catch (error) {
      if (!(error instanceof WorkflowFailedError || error instanceof WorkflowCancelledError)) throw error;
      const { compensation } = await client.get({ workflowId: tripId });
      say(`  ${error.message}`);
      say(`  compensation: ${compensation}; still booked: ${agency.booked(tripId).join(', ') || 'nothing'}`);
    }
  };

  let worker = await newWorker();
  try {
    await report('lisbon', (await start('lisbon')).result());
    await report('oslo', (await start('oslo', { failures: { booking: 'car' } })).result());
    const slow = { booking: 'car', cancelling: { booking: 'hotel', times: 2 } } as const;
    await report('rome', (await start('rome', { failures: slow })).result());
    const never = { booking: 'car', cancelling: { booking: 'hotel', times: 99 } } as const;
    await report('paris', (await start('paris', { failures: never })).result());

    const vienna = await start('vienna', { confirmWithinMs: 3_600_000 });
    while ((await vienna.get()).status !== 'WAITING') await new Promise((resolve) => setTimeout(resolve, 20));
    await worker.shutdown();
    say('  another worker takes over; the traveller cancels');
    worker = await newWorker();
    await vienna.cancel('ill');
    await report('vienna', vienna.result());
    say(`\n${agency.count} requests were carried out, each once.`);
  } finally {
    await worker.shutdown();
    client.close();
    await dev.stop();
  }
}

await main();
