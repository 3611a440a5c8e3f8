import { type FailureGroup, TerminalError, type Workflow, type WorkflowContext, workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { refusal } from '../support/raw-worker.js';

describe('dead letters', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
    await perdure.admin.createNamespace({ name: 'other' });
  });
  afterAll(() => perdure.stop());

  let isBroken = true;
  /** Starts runs of a workflow of its own, one for each id, and waits until all have failed. */
  const failed = async (ids: readonly string[], code: (ctx: WorkflowContext, id: string) => Promise<unknown>) => {
    isBroken = true;
    const workflowType = `w-${uuid()}`;
    const taskQueue = workflowType;
    const definition = workflow(workflowType, code) as Workflow<string, unknown>;
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handles = await Promise.all(ids.map((id) => perdure.client.start(definition, id, { taskQueue })));
    for (const handle of handles) await expect(handle.result({ timeout: '20s' })).rejects.toThrow();
    return { handles, workflowType };
  };
  const breaks = async (ctx: WorkflowContext, id: string) =>
    ctx.step(`charge ${id}`, () => {
      if (isBroken) throw Object.assign(new TerminalError(`No account '${id}'`), { code: 'E_ACCOUNT' });
      return id;
    });
  const groups = async (workflowType: string) => {
    const all: FailureGroup[] = [];
    for await (const group of perdure.client.failures({ workflowType })) all.push(group);
    return all;
  };
  const listed = async (failureFingerprint: string) => {
    const ids: string[] = [];
    for await (const { runId } of perdure.client.list({ failureFingerprint })) ids.push(runId);
    return ids.sort();
  };

  it('are counted by workflow type and by what went wrong, and listed by it', async () => {
    const { handles, workflowType } = await failed(['1', '2', '3'], breaks);
    const [group, ...others] = await groups(workflowType);
    expect(others).toEqual([]);
    expect(group).toMatchObject({
      workflowType,
      runs: 3,
      newestError: { code: 'E_ACCOUNT', message: expect.stringMatching(/^No account '[123]'$/) },
    });
    expect(await listed(group?.fingerprint ?? '')).toEqual(handles.map(({ runId }) => runId).sort());
    const run = await handles[0]?.get();
    expect(run).toMatchObject({ failureFingerprint: group?.fingerprint, resolvedAt: undefined });
    expect(await perdure.workflows.listFailures({ namespace: 'other' })).toMatchObject({ groups: [] });
    expect(await refusal(perdure.workflows.listFailures({ namespace: 'nowhere' }))).toMatchObject({
      reason: 'NAMESPACE_NOT_FOUND',
    });
  });

  it('a run that is dismissed, retried or restarted is one no longer; one that fails again is', async () => {
    const { handles, workflowType } = await failed(['1', '2', '3', '4'], breaks);
    const [dismissed, retried, restarted, left] = handles;
    const [group] = await groups(workflowType);
    const fingerprint = group?.fingerprint ?? '';
    expect(await dismissed?.dismiss({ reason: 'paid by hand', actor: 'ada' })).toBe(true);
    expect(await perdure.client.dismiss({ runId: dismissed?.runId ?? '' })).toBe(false);
    const again = await restarted?.restart();
    await expect(again?.result({ timeout: '20s' })).rejects.toThrow();
    expect(await listed(fingerprint)).toEqual([retried?.runId, left?.runId, again?.runId].sort());
    isBroken = false;
    await retried?.retry();
    await retried?.result({ timeout: '20s' });
    expect(await listed(fingerprint)).toEqual([left?.runId, again?.runId].sort());
    const { actions, run } = await perdure.workflows.describeRun({ runId: dismissed?.runId ?? '' });
    expect(actions).toMatchObject([{ actor: 'ada', reason: 'paid by hand' }]);
    expect(run?.resolvedAt).toEqual(actions[0]?.actedAt);
    expect((await restarted?.get())?.resolvedAt).toBeInstanceOf(Date);
  });

  it('a later run of the same workflow id does not resolve a failed one', async () => {
    const { handles, workflowType } = await failed(['1'], breaks);
    const { workflowId, runId } = handles[0] ?? { workflowId: '', runId: '' };
    isBroken = false;
    const later = await perdure.client.start(workflowType, '1', { taskQueue: workflowType, workflowId });
    expect(await later.result({ timeout: '20s' })).toBe('1');
    expect(await groups(workflowType)).toMatchObject([{ runs: 1, newestRunId: runId }]);
  });

  it('a run whose compensations could not all be carried out is one', async () => {
    const { handles, workflowType } = await failed(['1'], async (ctx) => {
      ctx.onCompensate(
        'refund',
        () => {
          throw new TerminalError('no refund');
        },
        { retry: { maxAttempts: 1 } },
      );
      throw new TerminalError('sold out');
    });
    expect(await handles[0]?.get()).toMatchObject({ compensation: 'PARTIAL' });
    expect(await groups(workflowType)).toMatchObject([{ runs: 1 }]);
    const options = { unresolved: true, compensation: 'PARTIAL', workflowType } as const;
    for await (const { runId } of perdure.client.list(options)) expect(runId).toBe(handles[0]?.runId);
  });

  it('a child whose failure its parent was told of is none; the parent is, when it fails in consequence', async () => {
    const child = workflow(`child-${uuid()}`, async (ctx, id: string) => breaks(ctx, id));
    await perdure.startWorker({ taskQueue: child.name, workflows: [child] });
    const options = { taskQueue: child.name };
    const { workflowType } = await failed(['1', '2'], async (ctx, id) => ctx.child(child, id, options));
    expect(await groups(child.name)).toEqual([]);
    expect(await groups(workflowType)).toMatchObject([{ runs: 2, newestError: { type: 'ChildFailedError' } }]);
  });

  it('a run that has not FAILED cannot be dismissed', async () => {
    const { runId } = await perdure.client.start('w', undefined, { taskQueue: `q-${uuid()}` });
    expect(await refusal(perdure.workflows.dismissRun({ runId }))).toMatchObject({
      status: 'FAILED_PRECONDITION',
      reason: 'WRONG_RUN_STATE',
      message: expect.stringContaining('cannot be dismissed'),
    });
  });
});
