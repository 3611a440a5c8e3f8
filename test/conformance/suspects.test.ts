import { workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';

describe('suspects', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    // Nothing is found by looking again after a while.
    perdure = await startPerdure({ server: { pollFallbackMs: 60_000 } });
  });
  afterAll(() => perdure.stop());

  it('that end follow one another without waiting for anything, on a worker whose polls all wait', async () => {
    const taskQueue = `q-${uuid()}`;
    let atOnce = 0;
    let most = 0;
    const definition = workflow('recovers', async (ctx, id: number) => {
      most = Math.max(most, ++atOnce);
      await ctx.step('work', () => id);
      atOnce--;
      return id;
    });
    const ids = Array.from({ length: 30 }, (_, id) => id);
    const handles = await Promise.all(ids.map((id) => perdure.client.start(definition, id, { taskQueue })));
    // As after a bad deploy that took down every worker twice.
    await perdure.database.sql`update perdure.workflow_runs set lost_leases = 2 where task_queue = ${taskQueue}`;
    await perdure.startWorker({ taskQueue, workflows: [definition], concurrency: 100 });
    expect(await Promise.all(handles.map((handle) => handle.result({ timeout: '15s' })))).toEqual(ids);
    expect(most).toBe(1);
  });
});
