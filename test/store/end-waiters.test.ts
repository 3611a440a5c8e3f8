import { type RunEnd, terminateRuns } from '@perdure/store';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EndWaiters } from '../../packages/server/dist/dispatch/end-waiters.js';
import { ManualClock } from '../support/manual-clock.js';
import { openTestStore, type TestStore } from '../support/store.js';
import { until } from '../support/until.js';

const DONE: RunEnd = { status: 'COMPLETED', output: null, failure: null, cancelReason: null };

describe('those who wait for runs to end', () => {
  let store: TestStore;
  let clock: ManualClock;
  let waiters: EndWaiters;
  let told: [string, RunEnd | undefined][];
  beforeAll(async () => {
    store = await openTestStore();
  });
  afterAll(() => store.stop());
  beforeEach(() => {
    clock = new ManualClock();
    told = [];
    waiters = new EndWaiters(store.db, pino({ level: 'silent' }), 1_000, clock);
  });
  const wait = (runId: string) => waiters.subscribe(runId, (end) => told.push([runId, end]));
  const terminate = (...runIds: string[]) =>
    terminateRuns(
      store.db,
      runIds.map((runId) => ({ namespace: 'default', runId, reason: '' })),
    );

  it('are told once, all of them, with the end when it is known', () => {
    wait('a');
    wait('a');
    wait('b');
    expect(waiters.waiting).toBe(2);
    waiters.onEnded('a', DONE);
    waiters.onEnded('a', DONE);
    waiters.onEnded('nobody waits for it');
    expect(told).toEqual([
      ['a', DONE],
      ['a', DONE],
    ]);
    expect(waiters.waiting).toBe(1);
  });

  it('are not told any more once they have gone', () => {
    const first = wait('a');
    wait('a');
    first.cancel();
    first.cancel();
    waiters.onEnded('a');
    expect(told).toEqual([['a', undefined]]);
    expect(waiters.waiting).toBe(0);
  });

  it('hear at the next regular look of an end that nobody told, and of no run that is still open', async () => {
    const [ended, open] = (await store.start(2)) as [string, string];
    wait(ended);
    wait(open);
    await terminate(ended);
    await clock.advance(999);
    expect(told).toEqual([]);
    await clock.advance(1);
    await until('the look', () => told.length > 0);
    expect(told).toEqual([[ended, undefined]]);
    expect(waiters.waiting).toBe(1);
  });

  it('look at once when something may have been missed, and trust no run to be open any more', async () => {
    const [ended, open] = (await store.start(2)) as [string, string];
    waiters.onStarting({ runId: open, namespace: 'default', workflowId: open });
    expect(waiters.openRun(open)).toEqual({ namespace: 'default', workflowId: open });
    wait(ended);
    await terminate(ended);
    waiters.resync();
    await until('the look', () => told.length > 0);
    expect(told).toEqual([[ended, undefined]]);
    expect(waiters.openRun(open)).toBeUndefined();
  });

  it('remember what was started here as open until it ends or does not start, and not without bound', () => {
    const start = (runId: string) => waiters.onStarting({ runId, namespace: 'n', workflowId: runId });
    for (const runId of ['ended', 'not started', 'open']) start(runId);
    waiters.onEnded('ended');
    waiters.onNotStarted('not started');
    expect(['ended', 'not started'].map((runId) => waiters.openRun(runId))).toEqual([undefined, undefined]);
    expect(waiters.openRun('open')).toBeDefined();
    for (let n = 0; n < 20_000; n++) start(`r${n}`);
    expect(waiters.openRun('open')).toBeUndefined();
    expect(waiters.openRun('r19999')).toBeDefined();
  });

  it('are all let go when the server stops, and those that come later at once', () => {
    wait('a');
    waiters.stop();
    wait('b');
    expect(told).toEqual([
      ['a', undefined],
      ['b', undefined],
    ]);
    expect(clock.nextInMs).toBeUndefined();
  });
});
