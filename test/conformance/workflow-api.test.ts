import { RunStatus, WaitReason, WorkflowIdReusePolicy } from '@perdure/proto';
import { LATEST_SCHEMA_VERSION } from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { fenceOf, payload, refusal, registerRawWorker, startRequest } from '../support/raw-worker.js';
import { until } from '../support/until.js';

describe('workflow API', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
  });
  afterAll(() => perdure.stop());

  const bytes = (size: number) => ({ data: new Uint8Array(size).fill(7), encoding: 'bytes' });
  const newQueue = () => `q-${uuid()}`;

  it('start returns a run id, and the run is PENDING until it is claimed', async () => {
    const { runId, created } = await perdure.workflows.startWorkflow(startRequest({ workflowId: 'order-1' }));
    expect(created).toBe(true);
    const { run } = await perdure.workflows.getRun({ runId });
    expect(run?.status).toBe(RunStatus.PENDING);
    expect(run?.workflowId).toBe('order-1');
    const byWorkflowId = await perdure.workflows.getRun({ workflowId: 'order-1' });
    expect(byWorkflowId.run?.runId).toBe(runId);
  });

  it('inputs and ids are returned exactly as they were sent', async () => {
    const workflowId = 'Ärger 🙂 ‮rtl é vs é';
    const data = Uint8Array.from({ length: 256 }, (_, index) => index);
    const { runId } = await perdure.workflows.startWorkflow(
      startRequest({ workflowId, input: { data, encoding: 'x/y' } }),
    );
    const { run } = await perdure.workflows.getRun({ runId });
    expect(run?.workflowId).toBe(workflowId);
    expect(run?.input?.encoding).toBe('x/y');
    expect(Buffer.from(run?.input?.data ?? []).equals(Buffer.from(data))).toBe(true);
  });

  it('an empty payload is distinguished from an absent one', async () => {
    const empty = await perdure.workflows.startWorkflow(
      startRequest({ input: { data: new Uint8Array(), encoding: 'e' } }),
    );
    const none = await perdure.workflows.startWorkflow(startRequest());
    expect((await perdure.workflows.getRun({ runId: empty.runId })).run?.input?.encoding).toBe('e');
    expect((await perdure.workflows.getRun({ runId: none.runId })).run?.input).toBeUndefined();
  });

  it('an input at the limit is accepted, and one beyond it is refused', async () => {
    const limit = 2 * 1024 * 1024;
    await perdure.workflows.startWorkflow(startRequest({ input: bytes(limit) }));
    const error = await refusal(perdure.workflows.startWorkflow(startRequest({ input: bytes(limit + 1) })));
    expect(error.status).toBe('INVALID_ARGUMENT');
    expect(error.violations[0]?.field).toBe('input.data');
    expect(error.message).toContain(String(limit));
    expect(error.message).toContain(String(limit + 1));
  });

  it('a repeated request id returns the same run even with another workflow id, and names the workflow id of the run', async () => {
    const old = uuid({ msecs: Date.now() - 48 * 3_600_000 });
    for (const requestId of [uuid(), old, `text-${uuid()}`]) {
      const first = await perdure.workflows.startWorkflow(startRequest({ requestId, workflowId: `a-${requestId}` }));
      const again = await perdure.workflows.startWorkflow(startRequest({ requestId, workflowId: `b-${requestId}` }));
      expect(again).toMatchObject({ runId: first.runId, workflowId: `a-${requestId}`, created: false });
    }
  });

  it('a repeated request id returns the same run even after it has ended', async () => {
    for (const requestId of [uuid(), 'my-own-id']) {
      const request = startRequest({ requestId, input: payload(1) });
      const first = await perdure.workflows.startWorkflow(request);
      const second = await perdure.workflows.startWorkflow(request);
      expect(second).toMatchObject({ runId: first.runId, created: false });
      await perdure.workflows.terminateRun({ runId: first.runId });
      const third = await perdure.workflows.startWorkflow(request);
      expect(third).toMatchObject({ runId: first.runId, created: false });
    }
  });

  it('an open workflow id returns its run for an equal start, and is ALREADY_EXISTS for another', async () => {
    const workflowId = uuid();
    const first = await perdure.workflows.startWorkflow(startRequest({ workflowId, input: payload('a') }));
    const again = await perdure.workflows.startWorkflow(startRequest({ workflowId, input: payload('a') }));
    expect(again).toMatchObject({ runId: first.runId, created: false });
    const error = await refusal(perdure.workflows.startWorkflow(startRequest({ workflowId, input: payload('b') })));
    expect(error).toMatchObject({ status: 'ALREADY_EXISTS', reason: 'WORKFLOW_ALREADY_EXISTS' });
    expect(error.metadata.run_id).toBe(first.runId);
    const { run } = await perdure.workflows.getRun({ runId: first.runId });
    expect(run?.input?.data).toEqual(payload('a').data);
  });

  it('reuse policies decide what an ended run allows', async () => {
    const start = (workflowId: string, reusePolicy: WorkflowIdReusePolicy) =>
      perdure.workflows.startWorkflow(startRequest({ workflowId, reusePolicy }));
    const { ALLOW, ALLOW_IF_FAILED, REJECT, TERMINATE_EXISTING } = WorkflowIdReusePolicy;

    const terminated = uuid();
    const first = await start(terminated, ALLOW);
    await perdure.workflows.terminateRun({ runId: first.runId });
    expect(
      (
        await refusal(
          perdure.workflows.startWorkflow(
            startRequest({ workflowId: terminated, reusePolicy: REJECT, input: payload(1) }),
          ),
        )
      ).status,
    ).toBe('ALREADY_EXISTS');
    const second = await start(terminated, ALLOW_IF_FAILED);
    expect(second.runId).not.toBe(first.runId);

    const completed = uuid();
    const done = await start(completed, ALLOW);
    await perdure.database.sql`update perdure.workflow_runs set status = 'COMPLETED', finished_at = perdure.clock(),
      available_at = null where run_id = ${done.runId}`;
    for (const policy of [ALLOW_IF_FAILED, REJECT]) {
      expect(await start(completed, policy)).toMatchObject({ runId: done.runId, created: false });
      const other = startRequest({ workflowId: completed, reusePolicy: policy, input: payload('another') });
      expect((await refusal(perdure.workflows.startWorkflow(other))).reason).toBe('WORKFLOW_ALREADY_EXISTS');
    }

    const third = await start(terminated, TERMINATE_EXISTING);
    expect(third.created).toBe(true);
    expect((await perdure.workflows.getRun({ runId: second.runId })).run?.status).toBe(RunStatus.TERMINATED);
  });

  it('fifty equal starts at once make one run', async () => {
    const workflowId = uuid();
    const answers = await Promise.all(
      Array.from({ length: 50 }, () => perdure.workflows.startWorkflow(startRequest({ workflowId }))),
    );
    expect(new Set(answers.map(({ runId }) => runId)).size).toBe(1);
    expect(answers.filter(({ created }) => created)).toHaveLength(1);
  });

  it('a batch start has an outcome per run', async () => {
    const workflowId = uuid();
    const { outcomes } = await perdure.workflows.startWorkflows({
      runs: [
        startRequest({ workflowId, input: payload(1) }),
        startRequest({ workflowId, input: payload(2) }),
        startRequest({ workflowId, input: payload(1) }),
      ],
    });
    expect(outcomes.map(({ result }) => result.case)).toEqual(['started', 'error', 'started']);
    expect(outcomes[2]?.result.value).toMatchObject({ created: false });
  });

  it('list pages have no overlap and no gap, and filters hold', async () => {
    const taskQueue = newQueue();
    const { outcomes } = await perdure.workflows.startWorkflows({
      runs: Array.from({ length: 25 }, (_, index) =>
        startRequest({ taskQueue, workflowType: index % 2 === 0 ? 'even' : 'odd' }),
      ),
    });
    const started = outcomes.map(({ result }) => (result.case === 'started' ? result.value.runId : ''));
    const listed: string[] = [];
    let pageToken = '';
    do {
      const page = await perdure.workflows.listRuns({ taskQueue, pageSize: 7, pageToken });
      expect(page.runs.length).toBeLessThanOrEqual(7);
      listed.push(...page.runs.map(({ runId }) => runId));
      // What is started meanwhile is newer than every page that follows.
      await perdure.workflows.startWorkflow(startRequest({ taskQueue }));
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    expect(listed).toHaveLength(25);
    expect(new Set(listed)).toEqual(new Set(started));
    expect([...listed].sort().reverse()).toEqual(listed);

    const odd = await perdure.workflows.listRuns({ taskQueue, workflowType: 'odd', statuses: [RunStatus.PENDING] });
    expect(odd.runs).toHaveLength(12);
    expect((await perdure.workflows.listRuns({ taskQueue, statuses: [RunStatus.FAILED] })).runs).toHaveLength(0);
    const { total } = await perdure.workflows.countRuns({ taskQueue, workflowType: 'even' });
    expect(total).toBe(13n);
  });

  it('a page token of another query is refused', async () => {
    const taskQueue = newQueue();
    await perdure.workflows.startWorkflows({ runs: [startRequest({ taskQueue }), startRequest({ taskQueue })] });
    const { nextPageToken } = await perdure.workflows.listRuns({ taskQueue, pageSize: 1 });
    const error = await refusal(
      perdure.workflows.listRuns({ taskQueue: 'other', pageSize: 1, pageToken: nextPageToken }),
    );
    expect(error.violations[0]?.field).toBe('page_token');
  });

  it('describe says that no worker polls the queue', async () => {
    const taskQueue = newQueue();
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue }));
    const nobody = await perdure.workflows.describeRun({ runId });
    expect(nobody.waitReason).toBe(WaitReason.NO_WORKER);
    expect(nobody.explanation).toContain(taskQueue);
    const worker = await registerRawWorker(perdure, taskQueue, ['other']);
    expect((await perdure.workflows.describeRun({ runId })).waitReason).toBe(WaitReason.NO_WORKER_FOR_TYPE);
    await perdure.workers.registerWorker({ workerId: worker.workerId, taskQueue, workflowTypes: ['w'], slots: 1 });
    expect((await perdure.workflows.describeRun({ runId })).waitReason).toBe(WaitReason.NO_FREE_SLOT);
    const run = await worker.claim();
    expect((await perdure.workflows.describeRun({ runId })).waitReason).toBe(WaitReason.EXECUTING);
    await perdure.workers.completeWorkflow(fenceOf(run));
    expect((await perdure.workflows.describeRun({ runId })).explanation).toContain('COMPLETED');
  });

  it('await returns within its wait, and at once when the run ends', async () => {
    const taskQueue = newQueue();
    const worker = await registerRawWorker(perdure, taskQueue);
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue }));
    const early = await perdure.workflows.awaitRun({ runId, wait: { nanos: 50_000_000 } });
    expect(early.ended).toBe(false);
    const waiting = perdure.workflows.awaitRun({ runId, wait: { seconds: 20n } });
    await perdure.workers.completeWorkflow({ ...fenceOf(await worker.claim()), output: payload('done') });
    // Its wait would end after 20 s without the end.
    const late = await waiting;
    expect(late).toMatchObject({ ended: true });
    expect(late.output?.data).toEqual(payload('done').data);
  });

  it('execute starts a run once and returns its end, or that it continues', async () => {
    const taskQueue = newQueue();
    const worker = await registerRawWorker(perdure, taskQueue);
    const start = startRequest({ taskQueue, workflowId: uuid(), requestId: uuid() });
    const early = await perdure.workflows.executeWorkflow({ start, wait: { nanos: 50_000_000 } });
    expect(early).toMatchObject({ ended: false, created: true, workflowId: start.workflowId });

    const waiting = perdure.workflows.executeWorkflow({ start, wait: { seconds: 20n } });
    const run = await worker.claim();
    expect(run.runId).toBe(early.runId);
    await perdure.workers.completeWorkflow({ ...fenceOf(run), output: payload('done') });
    const told = await waiting;
    expect(told).toMatchObject({ ended: true, created: false, runId: run.runId, status: RunStatus.COMPLETED });
    expect(told.output?.data).toEqual(payload('done').data);

    const again = await perdure.workflows.executeWorkflow({ start, wait: {} });
    expect(again).toMatchObject({ ended: true, created: false, runId: run.runId });
    const other = perdure.workflows.executeWorkflow({
      start: startRequest({
        taskQueue,
        workflowId: start.workflowId ?? '',
        requestId: uuid(),
        reusePolicy: WorkflowIdReusePolicy.REJECT,
        input: payload('other'),
      }),
    });
    expect((await refusal(other)).status).toBe('ALREADY_EXISTS');
  });

  it('execute returns that a run was cancelled or terminated', async () => {
    const taskQueue = newQueue();
    for (const act of ['cancelRun', 'terminateRun'] as const) {
      const workflowId = uuid();
      const waiting = perdure.workflows.executeWorkflow({ start: startRequest({ taskQueue, workflowId }) });
      await until('the run', async () => {
        const found = await perdure.workflows.listRuns({ workflowId });
        return found.runs.length === 1;
      });
      await perdure.workflows[act]({ workflowId, reason: 'no more' });
      const end = await waiting;
      expect(end.status).toBe(act === 'cancelRun' ? RunStatus.CANCELLED : RunStatus.TERMINATED);
      expect(act === 'cancelRun' ? end.cancelReason : end.failure?.message).toContain('no more');
    }
  });

  it('a watch shows everything up to the end', async () => {
    const taskQueue = newQueue();
    const worker = await registerRawWorker(perdure, taskQueue);
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue }));
    const seen: string[] = [];
    const watching = (async () => {
      for await (const { run, steps } of perdure.workflows.watchRun({ runId })) {
        if (run !== undefined) seen.push(RunStatus[run.status] ?? '');
        for (const step of steps) seen.push(`${step.stepId}:${step.status}`);
      }
    })();
    const run = await worker.claim();
    await perdure.workers.beginStep({
      ...fenceOf(run),
      stepId: 's',
      seq: 1,
      kind: 1,
      attemptNumber: 1,
      countedAttempt: 1,
    });
    await perdure.workers.completeStep({ ...fenceOf(run), stepId: 's', attemptNumber: 1, eventSeq: 1 });
    await perdure.workers.completeWorkflow(fenceOf(run));
    await watching;
    expect(seen.at(-1)).toMatch(/COMPLETED|s:2/);
    expect(seen).toContain('COMPLETED');
    expect(seen).toContain('s:2');
  });

  it('a watch names the updates and signals that steps receive, and their senders', async () => {
    const taskQueue = newQueue();
    const worker = await registerRawWorker(perdure, taskQueue);
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue }));
    const seen: string[] = [];
    let looks = 0;
    const watching = (async () => {
      for await (const { steps } of perdure.workflows.watchRun({ runId })) {
        looks++;
        for (const { stepId, awaits, sender } of steps) seen.push(`${stepId}: ${awaits} from ${sender}`);
      }
    })();
    const run = await worker.claim();
    const wait = { ...fenceOf(run), attemptNumber: 1, eventSeq: 1 };
    await until('the watch to have begun', () => looks > 0);
    await perdure.workers.awaitStep({ ...wait, stepId: 'u', seq: 1, awaits: { case: 'update', value: true } });
    await perdure.workers.awaitStep({ ...wait, stepId: 's', seq: 2, awaits: { case: 'signal', value: 'paid' } });
    const update = { runId, name: 'add', requestId: 'r', sender: 'ada', wait: { seconds: 0n, nanos: 0 } };
    await perdure.workflows.updateRun(update);
    await perdure.workflows.signalRun({ runId, name: 'paid', sender: 'eve' });
    await perdure.workers.takeArrivals({ ...fenceOf(run), eventSeq: 1 });
    await until('the steps to be shown', () => seen.includes('u: add from ada') && seen.includes('s: paid from eve'));
    await perdure.workers.completeWorkflow(fenceOf(run));
    await watching;
  });

  it('a server describes itself', async () => {
    const info = await perdure.admin.getServerInfo({});
    expect(info).toMatchObject({
      schemaVersion: LATEST_SCHEMA_VERSION,
      durable: true,
      maxPayloadBytes: 2 * 1024 * 1024,
    });
  });
});
