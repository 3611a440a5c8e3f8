import { beforeEach, describe, expect, it } from 'vitest';
import { Arrivals } from '../../packages/worker-sdk/dist/execution/wait/arrivals.js';
import { Suspension } from '../../packages/worker-sdk/dist/execution/wait/suspension.js';
import type { SuspensionHost } from '../../packages/worker-sdk/dist/execution/wait/suspension-host.js';
import { type WaitEnd, Waits } from '../../packages/worker-sdk/dist/execution/wait/waits.js';
import { gate } from '../support/held-answers.js';
import { ManualClock, settled } from '../support/manual-clock.js';

interface Answer {
  readonly suspended: boolean;
  readonly cancelRequested?: boolean;
  readonly readyStepIds?: readonly string[];
  readonly hasArrivals?: boolean;
}

/** A run whose server answers as the test says; what comes of it is written down. */
function suspendable() {
  const clock = new ManualClock();
  const told: string[] = [];
  const requests: { waits: { stepId: string; kind: { case: string } }[] }[] = [];
  const state = { isIdle: true, answer: { suspended: true } as Answer, hold: undefined as Promise<void> | undefined };
  const taken: string[] = [];
  const calls = {
    exclusively: <T>(work: () => Promise<T>) => work(),
    async call(method: string, request: (typeof requests)[number]) {
      if (method === 'takeArrivals') {
        return { arrivals: taken.splice(0).map((stepId) => ({ stepId })), notDue: [], hasMore: false };
      }
      requests.push(request);
      await state.hold;
      return { cancelRequested: false, readyStepIds: [], ...state.answer };
    },
  };
  const host = {
    calls,
    faults: { guard: (work: () => Promise<void>) => work() },
    work: { during: <T>(work: () => Promise<T>) => work() },
    delivery: {
      recheck: () => told.push('touched'),
      reserve: () => ({
        eventSeq: 1,
        readyAll: (deliveries: readonly (() => void)[]) => {
          for (const deliver of deliveries) deliver();
        },
      }),
    },
    onArrivalsTaken: () => told.push('taken'),
    cancel: () => told.push('cancelled'),
    forget: () => told.push('evicted'),
    onSuspended: () => told.push('suspended'),
    get isIdle() {
      return state.isIdle;
    },
  } as unknown as SuspensionHost;
  const waits = new Waits(
    () => undefined,
    () => undefined,
    clock,
  );
  const arrivals = new Arrivals(host, waits, false);
  arrivals.onReplay({ entries: new Map(), places: new Map(), cut: new Map(), delivered: [] });
  const suspension = new Suspension(host, waits, arrivals, clock);
  const ends: string[] = [];
  const wait = (stepId: string, remainingMs: number, on: 'TIMER' | 'RETRY' = 'TIMER') => {
    arrivals.expect(stepId, () => ends.push(`${stepId} arrived`));
    void waits
      .wait({
        stepId,
        on,
        uncancellable: false,
        remainingMs,
      })
      .then((end: WaitEnd) => ends.push(`${stepId} ${end.kind}`));
  };
  return { clock, told, requests, state, taken, suspension, waits, wait, ends };
}

describe('a suspension', () => {
  let run: ReturnType<typeof suspendable>;
  beforeEach(() => {
    run = suspendable();
  });
  const resume = async (cancelRequested = false) => {
    const arrivals = run.taken.splice(0).map((stepId) => ({ stepId }));
    run.suspension.resume({ cancelRequested, arrivals, hasArrivals: false } as never);
    await settled();
  };

  it('names all waits, and stops their timers once it is acknowledged', async () => {
    run.wait('nap', 1_000);
    run.wait('step', 2_000, 'RETRY');
    run.suspension.onIdle();
    await settled();
    expect(run.requests[0]?.waits.map(({ stepId, kind }) => [stepId, kind.case])).toEqual([
      ['nap', 'timer'],
      ['step', 'retry'],
    ]);
    expect([run.told, run.suspension.isSuspended, run.clock.nextInMs]).toEqual([['suspended'], true, undefined]);
  });

  it('is not worth it for a wait of up to 200 ms, nor while something is under way, nor for nothing', async () => {
    run.suspension.onIdle();
    run.wait('soon', 200);
    run.suspension.onIdle();
    await run.clock.advance(200);
    run.wait('later', 201);
    run.state.isIdle = false;
    run.suspension.onIdle();
    expect(run.requests).toEqual([]);
    run.state.isIdle = true;
    run.suspension.onIdle();
    run.suspension.onIdle();
    await settled();
    expect(run.requests).toHaveLength(1);
  });

  it('names no more than 1,000 waits: those that end first', async () => {
    for (let n = 1_500; n > 0; n--) run.wait(`s${n}`, 1_000 + n);
    run.suspension.onIdle();
    await settled();
    const named = run.requests[0]?.waits.map(({ stepId }) => stepId) ?? [];
    expect([named.length, named[0], named.at(-1)]).toEqual([1_000, 's1', 's1000']);
  });

  it.each([
    ['a timer fired', () => run.clock.advance(300)],
    ['the code awaits something new', async () => run.wait('new', 5_000)],
    ['work begins', async () => Object.assign(run.state, { isIdle: false })],
  ])('keeps nothing when %s before its answer is here', async (_, meanwhile) => {
    const held = gate();
    run.state.hold = held.opened;
    run.wait('short', 300);
    run.wait('long', 9_000);
    run.suspension.onIdle();
    await settled();
    await meanwhile();
    held.open();
    await settled();
    expect([run.told, run.suspension.isSuspended]).toEqual([['evicted'], false]);
  });

  it('is none when the server says that something is due; the run continues with that', async () => {
    run.state.answer = { suspended: false, readyStepIds: ['nap'], cancelRequested: true };
    run.wait('nap', 1_000);
    run.wait('other', 2_000);
    run.suspension.onIdle();
    await settled();
    expect(run.told).toEqual(['cancelled', 'touched']);
    expect([run.ends, run.waits.size, run.suspension.isSuspended]).toEqual([['nap due'], 1, false]);
  });

  it('resumes with what has arrived, and waits on for the rest', async () => {
    run.wait('fired', 1_000);
    run.wait('rest', 9_000);
    run.wait('retried', 9_000, 'RETRY');
    run.suspension.onIdle();
    await settled();
    run.taken.push('fired');
    await resume();
    expect(run.ends).toEqual(['fired arrived']);
    await run.clock.advance(8_999);
    expect(run.ends).toEqual(['fired arrived']);
    await run.clock.advance(1);
    expect(run.ends).toEqual(['fired arrived', 'rest due', 'retried due']);
  });

  it('resumes with a cancel that came meanwhile, after what has arrived', async () => {
    run.wait('nap', 1_000);
    run.suspension.onIdle();
    await settled();
    run.taken.push('nap');
    await resume(true);
    expect(run.told).toEqual(['suspended', 'cancelled', 'touched']);
    expect(run.ends).toEqual(['nap arrived']);
  });

  it('of a run that waits for something from outside says so, and names only what a time ends', async () => {
    run.wait('nap', 1_000);
    void run.waits.wait({ stepId: 'go', on: 'ARRIVAL', uncancellable: false, remainingMs: undefined });
    void run.waits.wait({ stepId: 'late', on: 'ARRIVAL', uncancellable: false, remainingMs: 5_000 });
    run.suspension.onIdle();
    await settled();
    expect(run.requests).toMatchObject([
      {
        arrivalsAwaited: 1,
        waits: [
          { stepId: 'nap', kind: { case: 'timer' } },
          { stepId: 'late', kind: { case: 'timeout' } },
        ],
      },
    ]);
  });

  it('that is refused because something has arrived takes that', async () => {
    run.state.answer = { suspended: false, hasArrivals: true };
    run.wait('go', 60_000);
    run.suspension.onIdle();
    await settled();
    run.taken.push('go');
    run.suspension.onIdle();
    await settled();
    expect([run.ends, run.suspension.isSuspended]).toEqual([['go arrived'], false]);
  });
});
