import { DBOS } from '@dbos-inc/dbos-sdk';
import { measure, measureFanout, steps } from './lib.mjs';

DBOS.setConfig({
  name: 'bench',
  systemDatabaseUrl: process.env.PEER_DATABASE_URL,
  logLevel: 'error',
  systemDatabasePoolSize: 20,
});
const run = DBOS.registerWorkflow(
  async () => {
    let sum = 0;
    for (let n = 0; n < steps; n++) sum += await DBOS.runStep(async () => n, { name: `s${n}` });
    return sum;
  },
  { name: 'run' },
);
const parent = DBOS.registerWorkflow(
  async (count) => {
    const handles = await Promise.all(Array.from({ length: count }, () => DBOS.startWorkflow(run)()));
    const results = await Promise.all(handles.map((handle) => handle.getResult()));
    return results.length;
  },
  { name: 'parent' },
);
await DBOS.launch();
const isFanout = await measureFanout(async (count) => {
  const handle = await DBOS.startWorkflow(parent)(count);
  await handle.getResult();
});
if (!isFanout) {
  await measure(async () => {
    const handle = await DBOS.startWorkflow(run)();
    await handle.getResult();
  });
}
await DBOS.shutdown();
process.exit(0);
