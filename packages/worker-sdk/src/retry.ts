import { type Duration, durationMs } from './duration.js';
import { RetryableError } from './errors/errors.js';
import { isNonRetryable } from './errors/non-retryable.js';
import { refuseUnknownKeys } from './options.js';
import { shown } from './text.js';

/** An error class, an error's `name` or `code`, or a function that says whether the error matches. */
export type ErrorMatcher = (abstract new (...args: never[]) => Error) | string | ((error: unknown) => boolean);

/** How often and when a failed step or run is retried. */
export interface RetryPolicy {
  /**
   * Counted attempts in all, from 1; `Infinity`: until it succeeds. Attempts that are lost with their worker are not counted.
   * Default 3 for steps, 1 for runs.
   */
  readonly maxAttempts?: number;
  /** How the wait grows: always `initial`, n × `initial`, or `initial` × `factor`ⁿ⁻¹. Default `'exponential'`. */
  readonly backoff?: 'fixed' | 'linear' | 'exponential';
  /** Wait before the second attempt; 0 to 10 years; default 1 s. */
  readonly initial?: Duration;
  /** Longest wait; 0 to 10 years; default 1 minute. */
  readonly max?: Duration;
  /** Factor of the exponential backoff, 1 to 100; default 2. */
  readonly factor?: number;
  /** Share of the wait that is added or subtracted at random, 0 to 1; default 0.1. */
  readonly jitter?: number;
  /** Only errors that match one of these are retried; default: all. */
  readonly retryOn?: readonly ErrorMatcher[];
  /** Errors that match one of these are not retried. Wins over `retryOn`. */
  readonly stopOn?: readonly ErrorMatcher[];
}

/** A policy with every value set and checked. */
export interface ResolvedRetryPolicy {
  readonly maxAttempts: number;
  readonly backoff: 'fixed' | 'linear' | 'exponential';
  readonly initialMs: number;
  readonly maxMs: number;
  readonly factor: number;
  readonly jitter: number;
  readonly retryOn: readonly ErrorMatcher[] | undefined;
  readonly stopOn: readonly ErrorMatcher[];
}

/** Whether another attempt follows, and when; or why none does. */
export type RetryDecision =
  | { readonly retry: true; readonly delayMs: number }
  | { readonly retry: false; readonly why: 'non_retryable' | 'stop_on' | 'not_retry_on' | 'exhausted' };

/** @throws {TypeError} naming the value that is wrong */
export function resolveRetry(policy: RetryPolicy | undefined, defaultMaxAttempts: number): ResolvedRetryPolicy {
  if (policy !== undefined) checkShape(policy);
  const { maxAttempts = defaultMaxAttempts, backoff = 'exponential', factor = 2, jitter = 0.1 } = policy ?? {};
  const wholeOrInfinite = maxAttempts === Number.POSITIVE_INFINITY || Number.isInteger(maxAttempts);
  if (!wholeOrInfinite || maxAttempts < 1 || (maxAttempts > 2 ** 31 - 1 && Number.isFinite(maxAttempts))) {
    throw new TypeError(`retry.maxAttempts must be a whole number, 1 or more, or Infinity; got ${maxAttempts}.`);
  }
  if (!['fixed', 'linear', 'exponential'].includes(backoff)) {
    throw new TypeError(`retry.backoff must be 'fixed', 'linear' or 'exponential'; got ${JSON.stringify(backoff)}.`);
  }
  if (!(factor >= 1 && factor <= 100)) throw new TypeError(`retry.factor must be between 1 and 100; got ${factor}.`);
  if (!(jitter >= 0 && jitter <= 1)) throw new TypeError(`retry.jitter must be between 0 and 1; got ${jitter}.`);
  return {
    maxAttempts,
    backoff,
    factor,
    jitter,
    initialMs: durationMs(policy?.initial ?? 1_000, 'retry.initial'),
    maxMs: durationMs(policy?.max ?? 60_000, 'retry.max'),
    retryOn: policy?.retryOn,
    stopOn: policy?.stopOn ?? [],
  };
}

const KNOWN: readonly (keyof RetryPolicy)[] = [
  'maxAttempts',
  'backoff',
  'initial',
  'max',
  'factor',
  'jitter',
  'retryOn',
  'stopOn',
];

function checkShape(policy: RetryPolicy): void {
  if (typeof policy !== 'object' || policy === null) {
    throw new TypeError(`retry must be an object such as { maxAttempts: 5 }; got ${shown(policy)}.`);
  }
  refuseUnknownKeys('retry', policy, KNOWN);
  for (const key of ['retryOn', 'stopOn'] as const) {
    const matchers: unknown = policy[key];
    if (matchers === undefined) continue;
    if (!Array.isArray(matchers))
      throw new TypeError(`retry.${key} must be an array of matchers; got ${shown(matchers)}.`);
    for (const matcher of matchers) {
      if (typeof matcher === 'string' || (typeof matcher === 'function' && !isAsync(matcher))) continue;
      throw new TypeError(
        `retry.${key} takes error classes, names or codes, and functions that return true or false; got ${
          typeof matcher === 'function' ? 'an async function' : shown(matcher)
        }.`,
      );
    }
  }
}

function isAsync(matcher: object): boolean {
  return Object.prototype.toString.call(matcher) === '[object AsyncFunction]';
}

/**
 * Decides whether and when a failure is retried; a pure function of its arguments.
 *
 * @param countedAttempt the attempt that failed, from 1
 * @param random 0 to 1, for the jitter
 * @param nowMs for an error that names a time of day
 */
export function decideRetry(
  policy: ResolvedRetryPolicy,
  failed: { readonly error: unknown; readonly countedAttempt: number; readonly random: number; readonly nowMs: number },
): RetryDecision {
  const { error, countedAttempt } = failed;
  if (isNonRetryable(error)) return { retry: false, why: 'non_retryable' };
  if (policy.stopOn.some((matcher) => matches(matcher, error))) return { retry: false, why: 'stop_on' };
  if (policy.retryOn !== undefined && !policy.retryOn.some((matcher) => matches(matcher, error))) {
    return { retry: false, why: 'not_retry_on' };
  }
  if (countedAttempt >= policy.maxAttempts) return { retry: false, why: 'exhausted' };
  const asked = error instanceof RetryableError && error.after !== undefined ? error.after : undefined;
  if (asked instanceof Date)
    return { retry: true, delayMs: Math.max(0, Math.ceil(asked.getTime() - failed.nowMs)) || 0 };
  if (asked !== undefined) return { retry: true, delayMs: durationMs(asked, 'RetryableError.after') };
  return { retry: true, delayMs: backoffMs(policy, countedAttempt, failed.random) };
}

/** @param countedAttempt the attempt that failed, from 1 */
function backoffMs(policy: ResolvedRetryPolicy, countedAttempt: number, random: number): number {
  let wait = policy.initialMs;
  if (policy.backoff === 'linear') wait *= countedAttempt;
  if (policy.backoff === 'exponential') wait *= policy.factor ** Math.min(countedAttempt - 1, 1_000);
  const capped = Math.min(wait, policy.maxMs);
  return Math.round(Math.min(capped * (1 + policy.jitter * (2 * random - 1)), policy.maxMs));
}

function matches(matcher: ErrorMatcher, error: unknown): boolean {
  if (typeof matcher === 'string') {
    const { name, code } = (error ?? {}) as { name?: unknown; code?: unknown };
    return name === matcher || String(code) === matcher;
  }
  if (isErrorClass(matcher)) return error instanceof matcher;
  const answer: unknown = (matcher as (error: unknown) => unknown)(error);
  if (typeof (answer as PromiseLike<unknown> | null)?.then !== 'function') return Boolean(answer);
  // Its answer would come too late. Matching nothing is the safer reading, and nothing else would handle a rejection.
  void Promise.resolve(answer as PromiseLike<unknown>).catch(() => undefined);
  return false;
}

function isErrorClass(matcher: Exclude<ErrorMatcher, string>): matcher is abstract new (...args: never[]) => Error {
  return matcher === Error || matcher.prototype instanceof Error;
}
