import { BulkKind, BulkStatus } from '@perdure/proto';
import { TerminalError, type Workflow, workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { refusal } from '../support/raw-worker.js';
import { until } from '../support/until.js';

const RATE = { rate: 10_000 } as const;

describe('bulk operations', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
    await perdure.startServer();
    await perdure.admin.createNamespace({ name: 'other' });
  });
  afterAll(() => perdure.stop());

  /** Runs of a type of their own, which wait for a signal; a worker executes them unless there is none. */
  const waiting = async (count: number, { worker = true } = {}) => {
    const workflowType = `w-${uuid()}`;
    const taskQueue = workflowType;
    const seen: string[] = [];
    const definition = workflow(workflowType, async (ctx, _: undefined) => {
      try {
        const got = await ctx.waitForSignal<string>('go');
        return await ctx.step('use', () => got);
      } catch (error) {
        seen.push('cleaned up');
        throw error;
      }
    }) as Workflow<undefined, string>;
    if (worker) await perdure.startWorker({ taskQueue, workflows: [definition] });
    const starts = Array.from({ length: count }, () => ({ input: undefined, options: { taskQueue } }));
    const handles = (await perdure.client.startMany(definition, starts)).flatMap((handle) =>
      'runId' in handle ? [handle] : [],
    );
    const reach = (status: string) =>
      until(`${count} runs to be ${status}`, async () => {
        let reached = 0;
        for await (const run of perdure.client.list({ workflowType, pageSize: 1_000 })) {
          if (run.status === status) reached++;
        }
        return reached === count;
      });
    if (worker) await reach('WAITING');
    return { workflowType, handles, reach, seen };
  };

  it('a dry run counts what matches and shows some of it; nothing is started', async () => {
    const { workflowType, handles } = await waiting(12, { worker: false });
    const preview = await perdure.client.previewBulk('CANCEL', { workflowType });
    expect(preview).toMatchObject({ matched: 12, matchedIsExact: true });
    expect(preview.sample.map(({ runId }) => runId)).toEqual(
      handles
        .map(({ runId }) => runId)
        .sort()
        .slice(0, 10),
    );
    expect(await perdure.client.previewBulk('SIGNAL', { workflowType })).toMatchObject({ matched: 12 });
    expect(await perdure.client.previewBulk('DELETE', { workflowType })).toMatchObject({ matched: 0, sample: [] });
    for await (const operation of perdure.client.bulkOperations()) expect(operation.matched).not.toBe(12);
  });

  it('a signal reaches each run once, and their workers continue them', async () => {
    const { workflowType, handles } = await waiting(60);
    const options = { signal: 'go', payload: 'hello', reason: 'it is time', actor: 'ada', ...RATE };
    const operation = await perdure.client.startBulk('SIGNAL', { workflowType }, options);
    for (const handle of handles) expect(await handle.result({ timeout: '20s' })).toBe('hello');
    expect(await operation.done()).toMatchObject({
      kind: 'SIGNAL',
      status: 'COMPLETED',
      matched: 60,
      changed: 60,
      reason: 'it is time',
      actions: [{ kind: 'START', actor: 'ada', reason: 'it is time' }],
    });
    const [row] = await perdure.database.sql`
      select count(*)::int as n from perdure.signals s join perdure.workflow_runs r using (run_id)
      where r.workflow_type = ${workflowType}`;
    expect(row?.n).toBe(60);
  });

  it('a pause and a resume of many runs: what waits does not continue meanwhile', async () => {
    const { workflowType, handles, reach } = await waiting(20);
    await (await perdure.client.startBulk('PAUSE', { workflowType }, { ...RATE, reason: 'maintenance' })).done();
    await reach('PAUSED');
    expect((await handles[0]?.get())?.pause).toMatchObject({ reason: 'maintenance' });
    for (const handle of handles) await handle.signal('go', 'late');
    await reach('PAUSED');
    await (await perdure.client.startBulk('RESUME', { workflowType }, RATE)).done();
    for (const handle of handles) expect(await handle.result({ timeout: '20s' })).toBe('late');
  });

  it('a cancel lets the code of each run clean up', async () => {
    const { workflowType, reach, seen } = await waiting(20);
    const operation = await perdure.client.startBulk('CANCEL', { workflowType }, { ...RATE, reason: 'closed' });
    await reach('CANCELLED');
    expect(seen).toHaveLength(20);
    expect(await operation.done()).toMatchObject({ changed: 20, refused: 0 });
  });

  it('a termination ends runs at once, tells who waits for them, and a deletion forgets them', async () => {
    const { workflowType, handles } = await waiting(20);
    const results = handles.map((handle) => handle.result({ timeout: '20s' }).catch((error: Error) => error.name));
    await (await perdure.client.startBulk('TERMINATE', { workflowType }, RATE)).done();
    expect(new Set(await Promise.all(results))).toEqual(new Set(['WorkflowTerminatedError']));
    const deletion = await perdure.client.startBulk('DELETE', { workflowType, status: 'TERMINATED' }, RATE);
    expect(await deletion.done()).toMatchObject({ changed: 20 });
    for await (const run of perdure.client.list({ workflowType })) expect(run).toBeUndefined();
  });

  it('a retry of all runs that failed alike continues them; those that were dismissed are left alone', async () => {
    const workflowType = `w-${uuid()}`;
    const taskQueue = workflowType;
    let isBroken = true;
    const definition = workflow(workflowType, async (ctx, order: number) =>
      ctx.step('charge', () => {
        if (isBroken) throw new TerminalError(`Order ${order} is not paid`);
        return order;
      }),
    );
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handles = await Promise.all([1, 2, 3, 4, 5].map((n) => perdure.client.start(definition, n, { taskQueue })));
    for (const handle of handles) await expect(handle.result({ timeout: '20s' })).rejects.toThrow();
    await handles[0]?.dismiss();
    const { value: group } = await perdure.client.failures({ workflowType }).next();
    isBroken = false;
    const filter = { failureFingerprint: group?.fingerprint ?? '' };
    const operation = await perdure.client.startBulk('RETRY', filter, { ...RATE, reason: 'paid', actor: 'ada' });
    expect(await operation.done()).toMatchObject({ matched: 4, changed: 4 });
    for (const [index, handle] of handles.slice(1).entries()) {
      expect(await handle.result({ timeout: '20s' })).toBe(index + 2);
    }
    expect((await handles[0]?.get())?.status).toBe('FAILED');
    const { actions } = await perdure.workflows.describeRun({ runId: handles[1]?.runId ?? '' });
    expect(actions).toMatchObject([{ actor: 'ada', reason: 'paid' }]);
  });

  it('is paused, resumed and aborted; what it did stays, and the rest is left alone', async () => {
    const { workflowType, handles } = await waiting(40, { worker: false });
    const operation = await perdure.client.startBulk('CANCEL', { workflowType }, { rate: 1 });
    await until('the first run to be cancelled', async () => (await operation.get()).changed >= 1);
    expect(await operation.pause({ reason: 'wait', actor: 'bob' })).toMatchObject({ status: 'PAUSED' });
    expect(await operation.resume({ actor: 'bob' })).toMatchObject({ status: 'RUNNING' });
    const aborted = await operation.abort({ reason: 'a mistake', actor: 'bob' });
    expect(aborted).toMatchObject({ status: 'ABORTED', finishedAt: expect.any(Date) });
    expect(aborted.actions.map(({ kind, actor, reason }) => [kind, actor, reason]).slice(1)).toEqual([
      ['PAUSE', 'bob', 'wait'],
      ['RESUME', 'bob', ''],
      ['ABORT', 'bob', 'a mistake'],
    ]);
    const cancelled = [];
    for (const handle of handles) if ((await handle.get()).status === 'CANCELLED') cancelled.push(handle);
    expect(cancelled).toHaveLength(aborted.changed);
    expect(await operation.done()).toMatchObject({ status: 'ABORTED', changed: aborted.changed });
    expect(await refusal(operation.resume())).toMatchObject({
      status: 'FAILED_PRECONDITION',
      reason: 'BULK_OPERATION_ENDED',
      message: expect.stringContaining('is ABORTED and cannot be resumed'),
    });
  });

  it('a repeat of a start with one request id starts nothing', async () => {
    const { workflowType } = await waiting(1, { worker: false });
    const request = { kind: BulkKind.CANCEL, filter: { workflowType }, requestId: uuid() };
    const first = await perdure.workflows.startBulkOperation(request);
    const again = await perdure.workflows.startBulkOperation(request);
    expect([first.created, again.created]).toEqual([true, false]);
    expect(again.operation?.operationId).toBe(first.operation?.operationId);
    expect(again.matched).toBe(1);
  });

  it('another namespace has none of it', async () => {
    const { workflowType } = await waiting(3, { worker: false });
    const operation = await perdure.client.startBulk('CANCEL', { workflowType }, { rate: 1 });
    const ref = { namespace: 'other', operationId: operation.operationId };
    for (const call of [
      () => perdure.workflows.getBulkOperation(ref),
      () => perdure.workflows.pauseBulkOperation(ref),
      () => perdure.workflows.resumeBulkOperation(ref),
      () => perdure.workflows.abortBulkOperation(ref),
    ]) {
      expect(await refusal(call())).toMatchObject({ status: 'NOT_FOUND', reason: 'BULK_OPERATION_NOT_FOUND' });
    }
    expect((await perdure.workflows.listBulkOperations({ namespace: 'other' })).operations).toEqual([]);
    const started = await perdure.workflows.startBulkOperation({
      namespace: 'other',
      kind: BulkKind.TERMINATE,
      filter: { workflowType },
    });
    expect(started).toMatchObject({ matched: 0 });
    await until('it to end', async () => {
      const request = { namespace: 'other', operationId: started.operation?.operationId ?? '' };
      return (await perdure.workflows.getBulkOperation(request)).operation?.status === BulkStatus.COMPLETED;
    });
    for await (const { status } of perdure.client.list({ workflowType })) expect(status).not.toBe('TERMINATED');
    const nowhere = { namespace: 'nowhere', kind: BulkKind.CANCEL };
    expect(await refusal(perdure.workflows.startBulkOperation(nowhere))).toMatchObject({
      reason: 'NAMESPACE_NOT_FOUND',
    });
    expect(await refusal(perdure.workflows.listBulkOperations(nowhere))).toMatchObject({
      reason: 'NAMESPACE_NOT_FOUND',
    });
    await operation.abort();
  });

  it('a mistyped kind, option or filter is refused with a suggestion', async () => {
    const { client } = perdure;
    await expect(client.startBulk('CANCELL' as 'CANCEL', {})).rejects.toThrow(/did you mean 'CANCEL'/);
    await expect(client.startBulk('CANCEL', {}, { rat: 1 } as object)).rejects.toThrow(/did you mean 'rate'/);
    await expect(client.previewBulk('CANCEL', { workflowtype: 'w' } as object)).rejects.toThrow(
      /did you mean 'workflowType'/,
    );
  });
});
