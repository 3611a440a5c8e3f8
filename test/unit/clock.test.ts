import { describe, expect, it } from 'vitest';
import { monotonicClock, pause } from '../../packages/worker-sdk/dist/clock.js';
import { ManualClock, settled } from '../support/manual-clock.js';

describe('a clock', () => {
  it('a clock calls timers in the order in which they are due, however far it is moved at once', async () => {
    const clock = new ManualClock();
    const calls: string[] = [];
    const note = (name: string) => () => calls.push(`${name} at ${clock.nowMs()}`);
    clock.after(30, note('late'));
    clock.after(10, () => clock.after(10, note('chained')));
    const cancel = clock.after(15, note('cancelled'));
    cancel();
    clock.after(Number.POSITIVE_INFINITY, note('never'));
    await clock.advance(1_000);
    expect(calls).toEqual(['chained at 20', 'late at 30']);
    expect(clock.nowMs()).toBe(1_000);
  });

  it('a pause ends when its time has come, or at once when its signal is aborted', async () => {
    const clock = new ManualClock();
    const abort = new AbortController();
    const ended: string[] = [];
    void pause(clock, 100).then(() => ended.push('slept'));
    void pause(clock, 1_000, abort.signal).then(() => ended.push('aborted'));
    await clock.advance(99);
    expect(ended).toEqual([]);
    await clock.advance(1);
    abort.abort();
    await pause(clock, 1_000, abort.signal);
    await settled();
    expect(ended).toEqual(['slept', 'aborted']);
    expect(clock.nextInMs).toBeUndefined();
  });

  it('a clock accepts delays that setTimeout does not', async () => {
    const calls: string[] = [];
    const cancel = monotonicClock.after(2 ** 40, () => calls.push('too early'));
    monotonicClock.after(Number.POSITIVE_INFINITY, () => calls.push('never'));
    await new Promise<void>((resolve) => monotonicClock.after(-5, resolve));
    await new Promise<void>((resolve) => monotonicClock.after(20, resolve));
    cancel();
    expect(calls).toEqual([]);
  });
});
