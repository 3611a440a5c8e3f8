import { beforeEach, describe, expect, it } from 'vitest';
import { type WaitEnd, Waits } from '../../packages/worker-sdk/dist/execution/wait/waits.js';
import { ManualClock, settled } from '../support/manual-clock.js';

describe('what a run awaits', () => {
  let clock: ManualClock;
  let changes: number;
  let waits: Waits;
  let ends: string[];
  let timeouts: string[];
  beforeEach(() => {
    clock = new ManualClock();
    changes = 0;
    ends = [];
    timeouts = [];
    waits = new Waits(
      () => changes++,
      (stepId) => timeouts.push(stepId),
      clock,
    );
  });
  const wait = (stepId: string, remainingMs: number, uncancellable = false) => {
    void waits
      .wait({ stepId, on: 'TIMER', uncancellable, remainingMs })
      .then((end: WaitEnd) => ends.push(`${stepId} ${end.kind}`));
  };

  it('ends when its time has come and not before, the earliest first', async () => {
    wait('late', 200);
    wait('early', 100);
    wait('past', -5);
    expect(waits.size).toBe(3);
    await clock.advance(99);
    expect(ends).toEqual(['past due']);
    await clock.advance(101);
    expect(ends).toEqual(['past due', 'early due', 'late due']);
    expect(waits.size).toBe(0);
  });

  it('is told of with every beginning and every end', async () => {
    wait('a', 100);
    wait('b', 100);
    expect(changes).toBe(2);
    waits.due(['a', 'never heard of']);
    expect(changes).toBe(3);
    await clock.advance(100);
    expect(changes).toBe(4);
    expect(ends).toEqual(['a due', 'b due']);
  });

  it('ends with a cancel, unless it is part of a clean-up', async () => {
    wait('code', 1_000);
    wait('clean-up', 1_000, true);
    waits.cancel();
    await settled();
    expect(ends).toEqual(['code cancelled']);
    await clock.advance(1_000);
    expect(ends).toEqual(['code cancelled', 'clean-up due']);
  });

  it('ends at no time while it is paused, and at its time once it is resumed', async () => {
    for (const stepId of ['sooner', 'later']) wait(stepId, stepId === 'later' ? 5_020 : 1_000);
    waits.pause();
    await clock.advance(5_000);
    expect(ends).toEqual([]);
    waits.resume();
    await clock.advance(0);
    expect(ends).toEqual(['sooner due']);
    await clock.advance(20);
    expect(ends).toEqual(['sooner due', 'later due']);
  });

  it('for something from outside ends with that, and not with its timeout, which the database decides', async () => {
    void waits
      .wait({ stepId: 'go', on: 'ARRIVAL', uncancellable: false, remainingMs: 100 })
      .then(() => ends.push('go'));
    await clock.advance(100);
    expect([timeouts, waits.size]).toEqual([['go'], 1]);
    waits.rearm('go', 50);
    await clock.advance(50);
    expect(timeouts).toEqual(['go', 'go']);
    waits.arrived('go');
    waits.arrived('never heard of');
    await settled();
    expect([ends, waits.size, clock.nextInMs]).toEqual([[], 0, undefined]);
  });

  it('may have no time that ends it', async () => {
    void waits.wait({
      stepId: 'go',
      on: 'ARRIVAL',
      uncancellable: false,
      remainingMs: undefined,
    });
    expect([waits.size, clock.nextInMs]).toEqual([1, undefined]);
    waits.cancel();
    expect(waits.size).toBe(0);
  });

  it('never ends once all are forgotten', async () => {
    wait('a', 10);
    waits.stop();
    await clock.advance(1_000);
    expect([ends, waits.size, clock.nextInMs]).toEqual([[], 0, undefined]);
  });
});
