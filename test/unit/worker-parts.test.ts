import type { LeasedRun } from '@perdure/proto';
import { RpcError } from '@perdure/worker-sdk';
import { pino } from 'pino';
import { beforeEach, describe, expect, it } from 'vitest';
import { Heartbeats } from '../../packages/worker-sdk/dist/execution/body/heartbeats.js';
import { Lease } from '../../packages/worker-sdk/dist/execution/lease/lease.js';
import { EarlyNotices } from '../../packages/worker-sdk/dist/worker/early-notices.js';
import { FaultBackoff, faultDelayMs } from '../../packages/worker-sdk/dist/worker/fault-backoff.js';
import { type Claim, LateClaims } from '../../packages/worker-sdk/dist/worker/late-claims.js';
import { LeaseKeeper } from '../../packages/worker-sdk/dist/worker/lease-keeper.js';
import { NoticeListener } from '../../packages/worker-sdk/dist/worker/notice-listener.js';
import { Polls, pollBackoffMs } from '../../packages/worker-sdk/dist/worker/polls.js';
import { SlotLedger } from '../../packages/worker-sdk/dist/worker/slot-ledger.js';
import { WarmCache } from '../../packages/worker-sdk/dist/worker/warm-cache.js';
import { ManualClock, settled } from '../support/manual-clock.js';

const log = pino({ level: 'silent' });
const identity = { namespace: 'default', workerId: 'w' };
const unavailable = () => new RpcError('UNAVAILABLE', 'no server');

describe('a lease', () => {
  it('a lease is trusted for nine tenths of its duration, from when the call that brought it was sent', () => {
    const clock = new ManualClock();
    const lease = new Lease('r', 1, 1_000, 0, clock);
    clock.stall(899);
    expect(lease.remainingMs).toBe(1);
    clock.stall(1);
    expect(lease.remainingMs).toBe(0);
  });

  it('code may begin while a fifth of its lease is left, and again after a renewal', () => {
    const clock = new ManualClock();
    const lease = new Lease('r', 1, 1_000, 0, clock);
    clock.stall(700);
    expect(lease.mayBegin).toBe(true);
    clock.stall(1);
    expect(lease.mayBegin).toBe(false);
    lease.renewed(701);
    expect(lease.mayBegin).toBe(true);
  });

  it('the answer to an earlier renewal never shortens a lease', () => {
    const lease = new Lease('r', 1, 1_000, 0, new ManualClock());
    lease.renewed(500);
    lease.renewed(300);
    expect(lease.trustedUntilMs).toBe(1_400);
  });
});

type Keeper = ConstructorParameters<typeof LeaseKeeper>[0];
type Held = Parameters<LeaseKeeper['add']>[0];

describe('the keeper of leases', () => {
  let clock: ManualClock;
  let calls: { leases: { runId: string; leaseToken: number; steps?: { stepId: string }[] }[] }[];
  let answer: (lease: { runId: string }) => Promise<{ renewed: boolean; cancelRequested: boolean }>;
  beforeEach(() => {
    clock = new ManualClock();
    calls = [];
    answer = async () => ({ renewed: true, cancelRequested: false });
  });

  const newKeeper = (more: Partial<Keeper> = {}) => {
    const transport = {
      async recordHeartbeat(request: (typeof calls)[number]) {
        calls.push(request);
        return { leases: await Promise.all(request.leases.map((lease) => answer(lease))), drain: false };
      },
    };
    return new LeaseKeeper({
      ...identity,
      transport: transport as never,
      clock,
      log,
      heartbeatIntervalMs: 1_000,
      onDrain: () => undefined,
      onNotRegistered: () => undefined,
      ...more,
    });
  };
  const newRun = (runId: string, durationMs = 3_000) => {
    const heartbeats = new Heartbeats({
      encode: (value) => ({ data: value as Uint8Array, encoding: 'bytes' }),
      decode: ({ data }) => data,
    });
    const events: string[] = [];
    const run = {
      lease: new Lease(runId, 1, durationMs, clock.nowMs(), clock),
      calls: { isYielding: false },
      heartbeats,
      events,
      takeHeartbeats: (maxBytes: number) => heartbeats.take(maxBytes),
      arrived: () => 0,
      pause: () => 0,
      cancel: () => events.push('cancel'),
      loseLease: (how: string) => events.push(how),
    };
    return run satisfies Held;
  };

  it('leases are renewed at an interval, and soon when a lease has been held for a while', async () => {
    const keeper = newKeeper();
    keeper.add(newRun('a'), false);
    await clock.advance(999);
    expect(calls).toHaveLength(0);
    await clock.advance(1);
    expect(calls).toHaveLength(1);
    keeper.add(newRun('b'), true);
    await clock.advance(0);
    expect(calls[1]?.leases.map(({ runId }) => runId)).toEqual(['a', 'b']);
    keeper.stop();
    expect(clock.nextInMs).toBeUndefined();
  });

  it('a worker without leases sends heartbeats too', async () => {
    newKeeper();
    await clock.advance(3_000);
    expect(calls.map(({ leases }) => leases)).toEqual([[], [], []]);
  });

  it('a run is dropped as soon as its lease cannot be trusted, before any call after a stall', async () => {
    const keeper = newKeeper();
    const run = newRun('a');
    keeper.add(run, false);
    clock.stall(60_000);
    await clock.advance(0);
    expect(run.events).toEqual(['expired']);
    expect(calls.map(({ leases }) => leases)).toEqual([[]]);
  });

  it('renewals are retried while calls fail, and the run is dropped when its lease has expired', async () => {
    answer = () => Promise.reject(unavailable());
    const keeper = newKeeper();
    const run = newRun('a');
    keeper.add(run, false);
    await clock.advance(2_699);
    expect(calls.length).toBeGreaterThan(4);
    expect(run.events).toEqual([]);
    await clock.advance(1);
    expect(run.events).toEqual(['expired']);
  });

  it('runs whose lease is lost are dropped, and cancel requests are passed on', async () => {
    answer = async ({ runId }) => ({ renewed: runId !== 'lost', cancelRequested: runId === 'cancelled' });
    const keeper = newKeeper();
    const runs = ['lost', 'cancelled', 'fine'].map((runId) => newRun(runId));
    for (const run of runs) keeper.add(run, false);
    await clock.advance(1_000);
    expect(runs.map(({ events }) => events)).toEqual([['refused'], ['cancel'], []]);
  });

  it('a run that was suspended and resumed while an answer was delayed is not dropped', async () => {
    let open: () => void = () => undefined;
    const late = new Promise<void>((resolve) => {
      open = resolve;
    });
    answer = async () => {
      await late;
      return { renewed: false, cancelRequested: false };
    };
    const keeper = newKeeper();
    const run = newRun('a');
    keeper.add(run, false);
    await clock.advance(1_000);
    keeper.remove(run);
    run.lease = new Lease('a', 2, 3_000, clock.nowMs(), clock);
    keeper.add(run, false);
    open();
    await settled();
    expect(run.events).toEqual([]);
    answer = async () => ({ renewed: true, cancelRequested: false });
    await clock.advance(1_000);
    expect(calls[1]?.leases).toEqual([{ runId: 'a', leaseToken: 2 }]);
  });

  it('a run that is giving its lease up is not dropped before its lease expires', async () => {
    answer = async () => ({ renewed: false, cancelRequested: false });
    const keeper = newKeeper();
    const run = newRun('a');
    run.calls.isYielding = true;
    keeper.add(run, false);
    await clock.advance(2_000);
    expect(run.events).toEqual([]);
    await clock.advance(1_000);
    expect(run.events).toEqual(['expired']);
  });

  it('a heartbeat has at most 1,000 leases', async () => {
    const keeper = newKeeper();
    for (let n = 0; n < 2_500; n++) keeper.add(newRun(`${n}`), false);
    await clock.advance(1_000);
    expect(calls.map(({ leases }) => leases.length)).toEqual([1_000, 1_000, 500]);
  });

  const bytesOf = (megabytes: number) => new Uint8Array(megabytes * 1024 * 1024);

  it('all leases are renewed before any detail is sent, and details are sent in calls of a bounded size', async () => {
    const keeper = newKeeper();
    const loud = newRun('loud');
    const quiet = newRun('quiet');
    for (const stepId of ['a', 'b', 'c']) loud.heartbeats.record(stepId, 1, bytesOf(1.5), () => undefined);
    for (const stepId of ['d', 'e']) quiet.heartbeats.record(stepId, 1, bytesOf(0.1), () => undefined);
    keeper.add(loud, false);
    keeper.add(quiet, false);
    await clock.advance(1_000);
    expect(
      calls.map(({ leases }) => leases.map(({ runId, steps }) => [runId, steps?.map((step) => step.stepId)])),
    ).toEqual([
      [
        ['loud', undefined],
        ['quiet', undefined],
      ],
      [['loud', ['a']]],
      [['loud', ['b']]],
      [['loud', ['c']]],
      [['quiet', ['d', 'e']]],
    ]);
  });

  it('details whose call failed are sent again, unless the server refused them', async () => {
    const keeper = newKeeper();
    const run = newRun('a');
    run.heartbeats.record('s', 1, bytesOf(0.1), () => undefined);
    const failures = [unavailable(), new RpcError('INVALID_ARGUMENT', 'no')];
    answer = async () => {
      if ((calls.at(-1)?.leases[0]?.steps?.length ?? 0) > 0) throw failures.shift();
      return { renewed: true, cancelRequested: false };
    };
    keeper.add(run, false);
    await clock.advance(5_000);
    expect(run.events).toEqual([]);
    expect(calls.filter(({ leases }) => (leases[0]?.steps?.length ?? 0) > 0)).toHaveLength(2);
    expect(failures).toEqual([]);
  });

  it('a flush of details never rejects, so its callers continue', async () => {
    answer = () => Promise.reject(unavailable());
    const keeper = newKeeper();
    const run = newRun('a');
    run.heartbeats.record('s', 1, bytesOf(0.1), () => undefined);
    await keeper.flush(run);
    expect(run.heartbeats.isSent('s')).toBe(false);
  });
});

describe('claims that came late', () => {
  const setUp = (answer: (clock: ManualClock, lease: Lease) => { renewed: boolean; cancelRequested: boolean }) => {
    const clock = new ManualClock();
    const outcomes: string[] = [];
    let calls = 0;
    const late = new LateClaims({
      clock,
      log,
      keeper: () => ({
        async confirm(leases: readonly Lease[]) {
          calls++;
          const sentAtMs = clock.nowMs();
          return leases.map((lease) => {
            const state = answer(clock, lease);
            if (state.renewed) lease.renewed(sentAtMs);
            return state as never;
          });
        },
      }),
      onHeld: ({ lease }) => outcomes.push(`held ${lease.runId}`),
      onGone: ({ lease }) => outcomes.push(`gone ${lease.runId}`),
    });
    const claim = (runId: string): Claim => ({
      leased: { runId, leaseToken: 1, leaseDuration: { seconds: 1n, nanos: 0 }, cancelRequested: false } as never,
      lease: new Lease(runId, 1, 1_000, clock.nowMs() - 5_000, clock),
      workflow: undefined as never,
      receivedAtMs: clock.nowMs(),
    });
    return { clock, late, outcomes, claim, calls: () => calls };
  };

  it('claims that came late begin only when their lease is still held, checked in one call for all', async () => {
    const { late, outcomes, claim, calls } = setUp((_, { runId }) => ({
      renewed: runId === 'a',
      cancelRequested: true,
    }));
    const claims = [claim('a'), claim('b')];
    await late.confirm(claims);
    expect(outcomes).toEqual(['held a', 'gone b']);
    expect(claims[0]?.leased.cancelRequested).toBe(true);
    expect([calls(), late.size]).toEqual([1, 0]);
  });

  it('claims that came late are checked again when the process stalled once more', async () => {
    let stalls = 2;
    const { late, outcomes, claim, calls } = setUp((clock) => {
      if (stalls-- > 0) clock.stall(2_000);
      return { renewed: true, cancelRequested: false };
    });
    await late.confirm([claim('a')]);
    expect(outcomes).toEqual(['held a']);
    expect(calls()).toBe(3);
  });

  it('claims that came late are dropped when no server answers for the duration of a lease', async () => {
    const { clock, late, outcomes, claim, calls } = setUp(() => {
      throw unavailable();
    });
    void late.confirm([claim('a')]);
    await clock.advance(1_000);
    expect([outcomes, late.size]).toEqual([[], 1]);
    await clock.advance(400);
    expect([outcomes, late.size]).toEqual([['gone a'], 0]);
    expect(calls()).toBeLessThan(12);
    expect(clock.nextInMs).toBeUndefined();
  });

  it('claims that came late learn of cancels and lost leases while they wait', async () => {
    const { clock, late, outcomes, claim } = setUp(() => {
      throw unavailable();
    });
    const claims = [claim('a'), claim('b')];
    void late.confirm(claims);
    await settled();
    late.onNotices({ cancelled: new Set(['a/1']), ended: new Set(['b/1']), awaited: new Set(['a/1']) });
    expect(outcomes).toEqual(['gone b']);
    expect(claims[0]?.leased).toMatchObject({ cancelRequested: true, hasArrivals: true });
    expect(late.giveUp().map(({ lease }) => lease.runId)).toEqual(['a']);
    expect(outcomes).toEqual(['gone b', 'gone a']);
    await clock.advance(1_000);
    expect(clock.nextInMs).toBeUndefined();
  });
});

describe('notices that come before their claim', () => {
  const none = new Set<string>();
  const claim = (runId: string) =>
    ({ runId, leaseToken: 1, cancelRequested: false, hasArrivals: false }) as unknown as LeasedRun;

  it('are told with the claim, once', () => {
    const early = new EarlyNotices(new ManualClock());
    early.remember(['a/1'], { cancelled: none, ended: none, awaited: new Set(['a/1']) });
    early.remember(['a/1', 'b/1'], { cancelled: new Set(['a/1']), ended: new Set(['b/1']), awaited: none });
    const told = claim('a');
    expect([early.apply(told), early.apply(claim('b')), early.size]).toEqual([true, false, 0]);
    expect(told).toMatchObject({ cancelRequested: true, hasArrivals: true });
    const again = claim('a');
    expect(early.apply(again)).toBe(true);
    expect(again).toMatchObject({ cancelRequested: false, hasArrivals: false });
  });

  it('are forgotten when the claim does not come within 10 s, and the oldest of more than 1,000 at once', () => {
    const clock = new ManualClock();
    const early = new EarlyNotices(clock);
    const hear = (...runIds: string[]) => {
      const keys = new Set(runIds.map((runId) => `${runId}/1`));
      early.remember(keys, { cancelled: keys, ended: none, awaited: none });
    };
    hear('old');
    clock.stall(10_001);
    hear('young');
    expect(early.size).toBe(1);
    hear(...Array.from({ length: 1_000 }, (_, index) => `run-${index}`));
    expect(early.size).toBe(1_000);
    const [first, last] = [claim('young'), claim('run-999')];
    expect([early.apply(first), early.apply(last)]).toEqual([true, true]);
    expect([first.cancelRequested, last.cancelRequested]).toEqual([false, true]);
  });
});

describe('polls', () => {
  const newPolls = (clock: ManualClock, poll: () => Promise<unknown>, more: object = {}) => {
    const polls = new Polls({
      ...identity,
      transport: { pollActivity: poll } as never,
      clock,
      ledger: new SlotLedger(1, ['t'], {}),
      taskQueue: 'q',
      workflowTypes: ['t'],
      log,
      onRuns: () => undefined,
      onNotRegistered: async () => undefined,
      onDrain: () => undefined,
      onFailure: () => undefined,
      ...more,
    });
    polls.fill();
    return polls;
  };

  for (const [what, error] of Object.entries({
    'of a transient kind': unavailable(),
    'that the server refuses': new RpcError('INVALID_ARGUMENT', 'no'),
    'that is not of the server': new Error('Channel has been shut down'),
    'that lacks a registration': new RpcError('FAILED_PRECONDITION', 'who?', { reason: 'WORKER_NOT_REGISTERED' }),
  })) {
    it(`polls wait longer after each error ${what}, up to a bound`, async () => {
      const clock = new ManualClock();
      const sentAtMs: number[] = [];
      const polls = newPolls(clock, () => {
        sentAtMs.push(clock.nowMs());
        return Promise.reject(error);
      });
      await clock.advance(60_000);
      const gaps = sentAtMs.slice(1).map((atMs, n) => atMs - (sentAtMs[n] ?? 0));
      expect(gaps[0]).toBeGreaterThanOrEqual(100);
      expect(Math.min(...gaps.slice(-5))).toBeGreaterThanOrEqual(2_000);
      expect(Math.max(...gaps)).toBeLessThanOrEqual(4_000);
      await polls.end(1_000);
      expect(clock.nextInMs).toBeUndefined();
    });
  }

  it('polls wait as long as the server demands, and start with short waits again after a success', () => {
    expect(pollBackoffMs(0, new RpcError('UNAVAILABLE', 'busy', { retryAfterMs: 5_000 }))).toBe(5_000);
    expect(pollBackoffMs(700, unavailable())).toBe(700);
    expect(pollBackoffMs(0, unavailable())).toBe(100);
  });

  it('a poll returns its runs with the time at which it was sent', async () => {
    const clock = new ManualClock();
    const brought: number[] = [];
    let answered = false;
    const polls = newPolls(
      clock,
      async () => {
        if (answered) return new Promise(() => undefined);
        answered = true;
        clock.stall(12_000);
        return { runs: [{}] };
      },
      { onRuns: (_: unknown, sentAtMs: number) => brought.push(sentAtMs) },
    );
    await settled();
    expect(brought).toEqual([0]);
    polls.stop();
  });
});

describe('the listener for notices', () => {
  it('the listener for notices waits after an error, and ends at once when it is stopped', async () => {
    const clock = new ManualClock();
    let calls = 0;
    const listener = new NoticeListener({
      ...identity,
      transport: {
        awaitNotices: () => {
          calls++;
          return Promise.reject(new Error('Channel has been shut down'));
        },
      } as never,
      clock,
      log,
      onNotices: () => undefined,
    });
    const ended = listener.listen();
    await clock.advance(30_000);
    expect(calls).toBeGreaterThan(5);
    expect(calls).toBeLessThan(25);
    listener.stop();
    await ended;
    expect(clock.nextInMs).toBeUndefined();
  });
});

describe('the ledger of slots', () => {
  it('free slots are spread over polls, and no poll requests a type without a free slot', () => {
    const ledger = new SlotLedger(100, ['a', 'b'], { b: 1 });
    ledger.begin('b');
    const first = ledger.openPoll();
    expect(first).toEqual({ types: ['a'], slots: 10 });
    let polls = 1;
    while (ledger.openPoll() !== undefined) polls++;
    expect(polls).toBe(10);
    ledger.end('b');
    // Ten polls wait, but none of them asks for b.
    if (first !== undefined) ledger.closePoll(first);
    expect(ledger.openPoll()?.types).toEqual(['a', 'b']);
  });

  it('there is no poll while all slots are taken, and one again when a slot is free', () => {
    const ledger = new SlotLedger(1, ['a'], {});
    ledger.begin('a');
    expect([ledger.openPoll(), ledger.running]).toEqual([undefined, 1]);
    ledger.end('a');
    expect(ledger.openPoll()).toEqual({ types: ['a'], slots: 1 });
  });
});

describe('the cache of warm runs', () => {
  const newRun = (runId: string, evicted: string[]) =>
    ({ run: { runId }, forget: () => evicted.push(runId) }) as unknown as Parameters<WarmCache['put']>[0];

  it('a full warm cache evicts the run that was suspended first, and returns each run once', () => {
    const evicted: string[] = [];
    const cache = new WarmCache(2);
    const runs = ['a', 'b', 'c'].map((runId) => newRun(runId, evicted));
    for (const run of runs) cache.put(run);
    expect(evicted).toEqual(['a']);
    expect(cache.take('a')).toBeUndefined();
    expect(cache.take('b')).toBe(runs[1]);
    expect(cache.take('b')).toBeUndefined();
    cache.clear();
    expect(evicted).toEqual(['a', 'c']);
  });

  it('a run that is suspended again is the newest in the warm cache', () => {
    const evicted: string[] = [];
    const cache = new WarmCache(2);
    for (const runId of ['a', 'b']) cache.put(newRun(runId, evicted));
    const again = cache.take('a');
    if (again !== undefined) cache.put(again);
    cache.put(newRun('c', evicted));
    expect(evicted).toEqual(['b']);
  });

  it('a warm cache of size 0 keeps no run', () => {
    const evicted: string[] = [];
    new WarmCache(0).put(newRun('a', evicted));
    expect(evicted).toEqual(['a']);
  });
});

describe('the backoff after faults', () => {
  it('the backoff after faults doubles with each one in a row, from 5 s to 5 min', () => {
    expect([1, 2, 3, 6, 7, 100].map(faultDelayMs)).toEqual([5_000, 10_000, 20_000, 160_000, 300_000, 300_000]);
  });

  it('the backoff after faults counts each run alone, restarts after progress, and remembers a bounded number of runs', () => {
    const backoff = new FaultBackoff(2);
    expect([backoff.next('a'), backoff.next('a'), backoff.next('b')]).toEqual([
      { count: 1, delayMs: 5_000 },
      { count: 2, delayMs: 10_000 },
      { count: 1, delayMs: 5_000 },
    ]);
    backoff.forget('a');
    expect(backoff.next('a').delayMs).toBe(5_000);
    backoff.next('c');
    expect(backoff.next('b').delayMs).toBe(5_000);
  });
});
