import { deleteRuns, endRuns, readRunState, setRunStates } from '@perdure/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTestStore, type TestStore } from '../support/store.js';

const text = (value: string) => ({ data: Buffer.from(value), encoding: 'text' });

describe('the state of a run', () => {
  let store: TestStore;
  let workerId: string;
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());

  const newLease = async () => {
    await store.start();
    const [lease] = await store.claim(workerId);
    if (lease === undefined) throw new Error('The run was not claimed.');
    return lease;
  };
  const state = async (runId: string) => (await readRunState(store.db, { namespace: 'default', runId }))?.value;

  it('the latest one is read, also after the end of the run, until the run is deleted', async () => {
    const lease = await newLease();
    expect(await readRunState(store.db, lease)).toEqual({ value: null, updatedAt: null });
    const outcomes = await setRunStates(store.db, [
      { ...lease, state: text('1'), seq: 1 },
      { ...lease, state: text('2'), seq: 2 },
    ]);
    expect(outcomes).toEqual([{ kind: 'set' }, { kind: 'set' }]);
    expect(await state(lease.runId)).toEqual(text('2'));
    await endRuns(store.db, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: false }]);
    expect(await setRunStates(store.db, [{ ...lease, state: text('3'), seq: 3 }])).toEqual([{ kind: 'lease_lost' }]);
    expect(await state(lease.runId)).toEqual(text('2'));
    await deleteRuns(store.db, [lease]);
    expect(await readRunState(store.db, lease)).toBeNull();
    const [left] = await store.database.sql`select count(*)::int as n from perdure.run_states`;
    expect(left).toEqual({ n: 0 });
  });

  it('only the lease that holds the run sets it; the same state again changes nothing; a state may be taken back', async () => {
    const lease = await newLease();
    await setRunStates(store.db, [{ ...lease, state: text('1'), seq: 1 }]);
    expect(
      await setRunStates(store.db, [{ ...lease, leaseToken: lease.leaseToken - 1, state: text('old'), seq: 9 }]),
    ).toEqual([{ kind: 'lease_lost' }]);
    expect(await setRunStates(store.db, [{ ...lease, namespace: 'elsewhere', state: text('x'), seq: 2 }])).toEqual([
      { kind: 'run_not_found' },
    ]);
    expect(await readRunState(store.db, { namespace: 'elsewhere', runId: lease.runId })).toBeNull();
    const at = (await readRunState(store.db, lease))?.updatedAt;
    await setRunStates(store.db, [{ ...lease, state: text('1'), seq: 4 }]);
    expect(await readRunState(store.db, lease)).toEqual({ value: text('1'), updatedAt: at });
    expect(await setRunStates(store.db, [{ ...lease, state: text('delayed'), seq: 3 }])).toEqual([{ kind: 'set' }]);
    expect(await state(lease.runId)).toEqual(text('1'));
    await setRunStates(store.db, [{ ...lease, state: null, seq: 5 }]);
    expect(await state(lease.runId)).toBeNull();
  });
});
