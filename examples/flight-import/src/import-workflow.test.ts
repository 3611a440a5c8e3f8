import { createTestEnvironment, type TestEnvironment } from 'perdure/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { checkImport } from './check-import.js';
import { FlightTable } from './flight-table.js';
import { importWorkflow } from './import-workflow.js';

let env: TestEnvironment;
let table: FlightTable;
beforeAll(async () => {
  env = await createTestEnvironment();
  table = new FlightTable(env.databaseUrl);
});
afterAll(async () => {
  await table.close();
  await env.close();
});

it('loads the data set, and totals it as the direct computation does', async () => {
  await checkImport(table, await env.run(importWorkflow(table), { rowsPerChunk: 5_000 }));
  expect(await table.loads()).toBe(4);
});

it('loads each row once, although its worker crashes around the loads', async () => {
  const report = await env.crashEverywhere(
    importWorkflow(table),
    { rowsPerChunk: 5_000 },
    { only: (point) => /of 'load'$/.test(point), probe: async () => (await table.rows()).length },
  );
  expect(report.names).toContain("before CompleteStep of 'load'");
}, 180_000);
