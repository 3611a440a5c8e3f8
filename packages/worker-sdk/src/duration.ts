import ms from 'ms';

/** Ms as a number, or a string such as `'500ms'`, `'30s'`, `'5 minutes'`, `'2h'`, `'3 days'`. */
export type Duration = number | ms.StringValue;

/** The server's own limit for timers, timeouts and delays, in ms: 10 years. */
export const MAX_DURATION_MS = 10 * 365 * 24 * 3_600_000;

/**
 * @param what names the option in the error
 * @returns whole ms, rounded up, 0 to 10 years
 * @throws {TypeError} when it is not a duration, negative, or too long
 */
export function durationMs(duration: Duration, what: string): number {
  const value = typeof duration === 'number' ? duration : parse(duration);
  if (!Number.isFinite(value) || value < 0 || value > MAX_DURATION_MS) {
    throw new TypeError(
      `${what} must be ms or a string such as '30s', '5 minutes' or '3 days', from 0 to 10 years; got ${JSON.stringify(duration)}.`,
    );
  }
  return Math.ceil(value);
}

function parse(text: ms.StringValue): number {
  if (typeof text !== 'string' || text.length === 0 || text.length > 100) return Number.NaN;
  return ms(text) ?? Number.NaN;
}
