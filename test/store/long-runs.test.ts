import { endRuns, forkRuns, type LeaseRef, retryRuns, terminateRuns } from '@perdure/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FAILURE, openTestStore, type TestStore } from '../support/store.js';

const namespace = 'default';
const STEPS = 5_000;
/** Ten times what it takes on a busy machine; what grows with the square of the steps takes minutes. */
const PATIENCE_MS = 5_000;

describe('a run of thousands of steps', () => {
  let store: TestStore;
  let workerId: string;
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());

  /** Each has received a signal, so that a cut touches as many rows of signals; the planner knows nothing of the run. */
  const longRun = async (): Promise<LeaseRef> => {
    await store.start();
    const [lease] = (await store.claim(workerId)) as [LeaseRef];
    await store.database.sql`
      insert into perdure.step_runs (run_id, step_id, attempt_number, seq, kind, status, counted_attempt, lease_token, started_at, finished_at,
        event_seq, awaits, output, output_encoding)
      select ${lease.runId}::uuid, 's' || n, 1, n, 'SIGNAL', 'COMPLETED', 1, ${lease.leaseToken}::int, now(), now(), n + 1, 'go',
        convert_to(repeat('x', 1000), 'utf8'), 'bytes'
      from generate_series(1, ${STEPS}::int) n`;
    await store.database.sql`
      insert into perdure.signals (run_id, sent_at, seq, name, consumed_by, payload, payload_encoding)
      select ${lease.runId}::uuid, now(), n, 'go', 's' || n, convert_to(repeat('x', 1000), 'utf8'), 'bytes'
      from generate_series(1, ${STEPS}::int) n`;
    return lease;
  };
  const timed = async (work: () => Promise<readonly { readonly kind: string }[]>) => {
    const beganMs = performance.now();
    const [outcome] = await work();
    expect(performance.now() - beganMs).toBeLessThan(PATIENCE_MS);
    return outcome?.kind;
  };

  it('is retried from its first step, forked from its last one, and the fork retried, in a moment', async () => {
    const action = { namespace, actor: '', reason: '', requestId: null };
    const lease = await longRun();
    const { runId } = lease;
    let forkId = '';
    expect(
      await timed(async () => {
        const outcomes = await forkRuns(store.db, [
          { ...action, runId, stepId: `s${STEPS}`, workflowId: null, input: null },
        ]);
        if (outcomes[0]?.kind === 'forked') forkId = outcomes[0].runId;
        return outcomes;
      }),
    ).toBe('forked');
    const cut = { from: { leaseToken: lease.leaseToken, eventSeq: 2 }, seq: 0 };
    await endRuns(store.db, [{ ...lease, end: 'FAILED', failure: FAILURE, cut }]);
    expect(await timed(() => retryRuns(store.db, [{ ...action, runId }]))).toBe('retried');
    const freed = (id: string) => store.database.sql`
      select count(*)::int as freed, min(octet_length(payload)) as bytes from perdure.signals where run_id = ${id} and consumed_by is null`;
    expect(await freed(runId)).toEqual([{ freed: STEPS, bytes: 1_000 }]);
    const [next] = (await store.claim(workerId)) as [LeaseRef];
    expect(next.runId).toBe(forkId);
    await endRuns(store.db, [{ ...next, end: 'FAILED', failure: FAILURE, cut }]);
    expect(await timed(() => retryRuns(store.db, [{ ...action, runId: forkId }]))).toBe('retried');
    expect(await freed(forkId)).toEqual([{ freed: STEPS - 1, bytes: 1_000 }]);
    await terminateRuns(store.db, [
      { namespace, runId, reason: '' },
      { namespace, runId: forkId, reason: '' },
    ]);
  });
});
