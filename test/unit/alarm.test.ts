import { beforeEach, describe, expect, it } from 'vitest';
import { Alarm } from '../../packages/reaper/dist/alarm.js';
import { ManualClock } from '../support/manual-clock.js';

describe("the reaper's alarm", () => {
  let clock: ManualClock;
  let alarm: Alarm;
  let awake: boolean;
  beforeEach(() => {
    clock = new ManualClock();
    alarm = new Alarm(clock);
  });
  const sleep = (maxMs: number) => {
    awake = false;
    void alarm.sleep(maxMs).then(() => {
      awake = true;
    });
  };
  const isAwakeAfter = async (ms: number) => {
    await clock.advance(ms);
    return awake;
  };

  it('lets the reaper sleep for its longest time, and no longer', async () => {
    sleep(1_000);
    expect(await isAwakeAfter(999)).toBe(false);
    expect(await isAwakeAfter(1)).toBe(true);
    expect(clock.nextInMs).toBeUndefined();
  });

  it('is brought forward by hints, and never back', async () => {
    sleep(1_000);
    alarm.setIn(300);
    alarm.setIn(600);
    expect(await isAwakeAfter(299)).toBe(false);
    expect(await isAwakeAfter(1)).toBe(true);
  });

  it('keeps a hint that came before the sleep, and forgets it with the sleep that it ended', async () => {
    alarm.setIn(200);
    await clock.advance(150);
    sleep(1_000);
    expect(await isAwakeAfter(50)).toBe(true);
    sleep(1_000);
    expect(await isAwakeAfter(999)).toBe(false);
  });

  it('rings at once, also for the next sleep', async () => {
    sleep(1_000);
    alarm.ring();
    expect(await isAwakeAfter(0)).toBe(true);
    alarm.ring();
    sleep(1_000);
    expect(await isAwakeAfter(0)).toBe(true);
  });
});
