import { type RpcError, signal, workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';

const item = signal<number>('item');

describe('a signal with a start', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
  });
  afterAll(() => perdure.stop());

  it('starts the run or signals the open one, and each request id counts once', async () => {
    const taskQueue = `q-${uuid()}`;
    const collect = workflow('collect', async (ctx, count: number) => {
      let sum = 0;
      for (let n = 0; n < count; n++) sum += await ctx.waitForSignal(item);
      return sum;
    });
    await perdure.startWorker({ taskQueue, workflows: [collect] });
    const options = { taskQueue, workflowId: uuid() };
    const handles = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        perdure.client.signalWithStart(collect, 20, item, n, { ...options, requestId: `${options.workflowId}/${n}` }),
      ),
    );
    expect(handles.filter(({ created }) => created)).toHaveLength(1);
    expect(new Set(handles.map(({ runId }) => runId)).size).toBe(1);
    expect(await handles[0]?.result({ timeout: '20s' })).toBe(190);
    // Repeats after the end start nothing.
    const again = await perdure.client.signalWithStart(collect, 20, item, 7, {
      ...options,
      requestId: `${options.workflowId}/7`,
    });
    expect(again.runId).toBe(handles[0]?.runId);
    const next = await perdure.client.signalWithStart(collect, 1, item, 5, options);
    expect(next.created).toBe(true);
    expect(await next.result({ timeout: '20s' })).toBe(5);
  });

  it('needs a workflow id, and replaces no run', async () => {
    const refusal = (more: object) =>
      perdure.workflows
        .signalWithStart({
          start: { workflowType: 'w', taskQueue: 'q', workflowId: 'x', ...more },
          signalName: 'go',
        })
        .then(
          () => undefined,
          (error: RpcError) => error.violations.map(({ field }) => field),
        );
    expect(await refusal({ workflowId: '' })).toEqual(['start.workflow_id']);
    expect(await refusal({ reusePolicy: 4 })).toEqual(['start.reuse_policy']);
  });
});
