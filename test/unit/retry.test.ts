import { RetryableError, TerminalError } from '@perdure/worker-sdk';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decideRetry, type RetryPolicy, resolveRetry } from '../../packages/worker-sdk/dist/retry.js';

const decide = (policy: RetryPolicy, countedAttempt: number, error: unknown = new Error('x'), random = 0.5) =>
  decideRetry(resolveRetry(policy, 3), { error, countedAttempt, random, nowMs: 1_000_000 });

describe('retry decisions', () => {
  it.each([
    ['fixed', [100, 100, 100, 100]],
    ['linear', [100, 200, 300, 400]],
    ['exponential', [100, 300, 900, 2_700]],
  ] as const)('%s backoff', (backoff, expected) => {
    const policy = { backoff, initial: 100, factor: 3, jitter: 0, maxAttempts: 9, max: '1h' } as const;
    expect([1, 2, 3, 4].map((countedAttempt) => decide(policy, countedAttempt))).toEqual(
      expected.map((delayMs) => ({ retry: true, delayMs })),
    );
  });

  it('the delay before a retry is never longer than max, for any attempt and jitter', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('fixed', 'linear', 'exponential'),
        fc.integer({ min: 1, max: 2 ** 31 - 1 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.nat(1_000_000),
        (backoff, countedAttempt, jitter, random, max) => {
          const decision = decide(
            { backoff, jitter, max, maxAttempts: Number.POSITIVE_INFINITY },
            countedAttempt,
            undefined,
            random,
          );
          expect(decision.retry && decision.delayMs).toBeLessThanOrEqual(max);
          expect(decision.retry && decision.delayMs).toBeGreaterThanOrEqual(0);
        },
      ),
    );
  });

  it('retries stop after the last counted attempt: at once for 1, never for Infinity', () => {
    expect(decide({ maxAttempts: 3 }, 2).retry).toBe(true);
    expect(decide({ maxAttempts: 3 }, 3)).toEqual({ retry: false, why: 'exhausted' });
    expect(decide({ maxAttempts: 1 }, 1).retry).toBe(false);
    expect(decide({ maxAttempts: Number.POSITIVE_INFINITY }, 1_000_000).retry).toBe(true);
  });

  it('stopOn wins over retryOn; names, codes, classes and functions match', () => {
    const coded = Object.assign(new RangeError('r'), { code: 'E1' });
    expect(decide({ retryOn: ['E1'] }, 1, coded).retry).toBe(true);
    expect(decide({ retryOn: [Error] }, 1, coded).retry).toBe(true);
    expect(decide({ retryOn: [TypeError] }, 1, coded)).toEqual({ retry: false, why: 'not_retry_on' });
    expect(decide({ retryOn: ['RangeError'], stopOn: ['E1'] }, 1, coded)).toEqual({ retry: false, why: 'stop_on' });
    expect(decide({ stopOn: [(error) => (error as Error).message === 'r'] }, 1, coded).retry).toBe(false);
    expect(decide({}, 1, new TerminalError('t'))).toEqual({ retry: false, why: 'non_retryable' });
  });

  it('an error may set the time of the next attempt, as a duration or a date', () => {
    expect(decide({}, 1, new RetryableError('r', { after: '2s' }))).toEqual({ retry: true, delayMs: 2_000 });
    expect(decide({}, 1, new RetryableError('r', { after: new Date(1_000_500) }))).toEqual({
      retry: true,
      delayMs: 500,
    });
    expect(decide({}, 1, new RetryableError('r', { after: new Date(0) }))).toEqual({ retry: true, delayMs: 0 });
    expect(decide({ maxAttempts: 1 }, 1, new RetryableError('r', { after: 1 })).retry).toBe(false);
  });

  it.each([
    [{ maxAttempts: 0 }, 'maxAttempts'],
    [{ maxAttempts: 1.5 }, 'maxAttempts'],
    [{ backoff: 'none' }, 'backoff'],
    [{ factor: 0 }, 'factor'],
    [{ jitter: 2 }, 'jitter'],
    [{ initial: 'soon' }, 'initial'],
    [{ max: -1 }, 'max'],
    [{ retryOn: 'E1' }, 'retryOn'],
    [{ stopOn: [async () => true] }, 'stopOn'],
    [{ stopOn: [7] }, 'stopOn'],
  ] as const)('refuses %j and names the value', (policy, field) => {
    expect(() => resolveRetry(policy as RetryPolicy, 3)).toThrow(new RegExp(`retry.${field}`));
  });

  it('a retry policy refuses unknown keys and suggests the nearest one', () => {
    const policy = { maximumAttempts: 5 } as RetryPolicy;
    expect(() => resolveRetry(policy, 3)).toThrow("retry has no option 'maximumAttempts'; did you mean 'maxAttempts'?");
    expect(() => resolveRetry(5 as never, 3)).toThrow('retry must be an object');
  });

  it('a matcher that answers with a promise matches nothing, and its rejection is handled', async () => {
    const late = (() => Promise.reject(new Error('too late'))) as never;
    expect(decide({ stopOn: [late] }, 1).retry).toBe(true);
    expect(decide({ retryOn: [late] }, 1).retry).toBe(false);
    await new Promise((resolve) => setImmediate(resolve));
  });
});
