import { createTestEnvironment, expectHistory, type TestEnvironment } from 'perdure/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { greeting } from '../src/greeting.js';

let env: TestEnvironment;

beforeAll(async () => {
  env = await createTestEnvironment();
});

afterAll(() => env?.close());

it('greets the person it is given', async () => {
  const deliver = env.stub('deliver', () => undefined);
  const run = await env.start(greeting, { name: 'Ada' });
  expect(await run.result()).toBe('Hello, Ada!');
  expect(deliver.calls).toHaveLength(1);
  await expectHistory(run).toMatch(['compose', { step: 'think', kind: 'sleep' }, 'deliver']);
});

it('greets once, wherever its worker crashes', async () => {
  env.stub('deliver', () => undefined);
  const report = await env.crashEverywhere(greeting, { name: 'Ada' });
  expect(report.points).toBeGreaterThan(0);
}, 60_000);
