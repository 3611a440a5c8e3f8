import { workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { refusal, startRequest } from '../support/raw-worker.js';

describe('deleting runs', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
  });
  afterAll(() => perdure.stop());

  it('a deletion removes an ended run with its history, and frees its workflow id and request id', async () => {
    const taskQueue = `q-${uuid()}`;
    const definition = workflow('w', async (ctx) => ctx.step('s', async () => 'x'));
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const options = { taskQueue, workflowId: uuid(), requestId: 'the same' };
    const handle = await perdure.client.start(definition, undefined, options);
    await handle.result();
    await handle.delete();
    const { runId } = handle;
    for (const call of [
      () => perdure.workflows.getRun({ runId }),
      () => perdure.workflows.getHistory({ runId }),
      () => perdure.workflows.listStepAttempts({ runId, stepId: 's' }),
      () => perdure.workflows.deleteRun({ runId }),
      () => perdure.workflows.getRun({ workflowId: options.workflowId }),
    ]) {
      expect(await refusal(call() as Promise<unknown>)).toMatchObject({ reason: 'RUN_NOT_FOUND' });
    }
    const again = await perdure.client.start(definition, undefined, options);
    expect(again).toMatchObject({ created: true });
    expect(again.runId).not.toBe(runId);
    await again.result();
    await perdure.client.delete({ workflowId: options.workflowId });
    expect(await refusal(again.get())).toMatchObject({ reason: 'RUN_NOT_FOUND' });
  });

  it('a deletion of an open run is refused and changes nothing', async () => {
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue: `q-${uuid()}` }));
    const before = await perdure.workflows.getRun({ runId });
    const error = await refusal(perdure.workflows.deleteRun({ runId }));
    expect(error).toMatchObject({ status: 'FAILED_PRECONDITION', reason: 'WRONG_RUN_STATE' });
    expect(error.message).toMatch(
      /is PENDING and cannot be deleted: it has not ended\. Cancel or terminate it first\./,
    );
    expect(await perdure.workflows.getRun({ runId })).toEqual(before);
  });
});
