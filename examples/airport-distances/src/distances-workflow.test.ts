import { createTestEnvironment, type TestEnvironment } from 'perdure/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { farthestOf, readAirports } from './airports.js';
import { distances, measure } from './distances-workflow.js';

let env: TestEnvironment;
beforeAll(async () => {
  env = await createTestEnvironment({ workflows: [measure] });
});
afterAll(() => env.close());

it('finds in child runs on another task queue what the direct computation finds', async () => {
  const found = await env.run(distances);
  const airports = readAirports();
  const hawaii = farthestOf(
    'HI',
    airports.filter(({ state }) => state === 'HI'),
  );
  expect(found).toContainEqual(hawaii);
  expect(found).toHaveLength(new Set(airports.map(({ state }) => state)).size);
});

it('puts the widest state first', async () => {
  env.stub('states', () => ['AK', 'RI', 'TX']);
  const stub = env.stub(measure, (state) => ({
    state,
    airports: 2,
    from: 'a',
    to: 'b',
    km: { AK: 3_000, RI: 60, TX: 1_200 }[state] ?? 0,
  }));
  expect((await env.run(distances)).map(({ state }) => state)).toEqual(['AK', 'TX', 'RI']);
  expect(stub.calls).toHaveLength(3);
});
