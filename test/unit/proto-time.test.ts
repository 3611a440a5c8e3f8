import { dateOf, durationOf, msOf, timestampOf } from '@perdure/proto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const TEN_YEARS_MS = 10 * 365 * 24 * 3_600_000;

describe('times of messages', () => {
  it('a duration comes back exact to the microsecond, and its nanos stay below a second', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: TEN_YEARS_MS, noNaN: true }), (ms) => {
        const duration = durationOf(ms);
        expect(duration.nanos).toBeLessThan(1e9);
        expect(Math.abs(msOf(duration) - ms)).toBeLessThanOrEqual(0.001);
      }),
    );
    expect(durationOf(999.9999999)).toMatchObject({ seconds: 1n, nanos: 0 });
  });

  it('a date comes back as it was, before 1970 too', () => {
    fc.assert(
      fc.property(fc.date({ noInvalidDate: true }), (date) => {
        const timestamp = timestampOf(date);
        expect(timestamp.nanos).toBeGreaterThanOrEqual(0);
        expect(dateOf(timestamp)).toEqual(date);
      }),
    );
  });

  it('an absent time is undefined', () => {
    expect([msOf(undefined), dateOf(undefined)]).toEqual([undefined, undefined]);
  });
});
