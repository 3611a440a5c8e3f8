import { DBOS } from '@dbos-inc/dbos-sdk';
import { measure, steps } from './lib.mjs';

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
await DBOS.launch();
await measure(async () => {
  const handle = await DBOS.startWorkflow(run)();
  await handle.getResult();
});
await DBOS.shutdown();
process.exit(0);
