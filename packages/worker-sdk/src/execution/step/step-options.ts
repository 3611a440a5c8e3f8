import type { StepOptions } from '../../context.js';
import { durationMs } from '../../duration.js';
import { refuseUnknownKeys } from '../../options.js';
import { type ResolvedRetryPolicy, resolveRetry } from '../../retry.js';
import { checkId, shown } from '../../text.js';

export interface ResolvedStepOptions {
  readonly retry: ResolvedRetryPolicy;
  /** 0: none. */
  readonly timeoutMs: number;
  /** 0: none. */
  readonly heartbeatTimeoutMs: number;
  /** The body must not be executed again when its worker was lost. */
  readonly atMostOnce: boolean;
  /** The result may reach the code before it is recorded, and the body may begin before earlier results are recorded. */
  readonly isLazy: boolean;
}

const DEFAULT_MAX_ATTEMPTS = 3;
const KNOWN: readonly (keyof StepOptions)[] = ['retry', 'timeout', 'heartbeatTimeout', 'begin', 'record'];
const MAX_NAME_BYTES = 200;

const DEFAULTS: ResolvedStepOptions = {
  retry: resolveRetry(undefined, DEFAULT_MAX_ATTEMPTS),
  timeoutMs: 0,
  heartbeatTimeoutMs: 0,
  atMostOnce: false,
  isLazy: false,
};

/** @throws {TypeError} naming the option that is wrong */
export function resolveStepOptions(name: string, options: StepOptions | undefined): ResolvedStepOptions {
  if (options === undefined) return DEFAULTS;
  refuseUnknownKeys(`Step '${name}'`, options, KNOWN);
  const retry = options.retry === undefined ? DEFAULTS.retry : resolveRetry(options.retry, DEFAULT_MAX_ATTEMPTS);
  const timeoutMs = positive(options.timeout, 'timeout');
  const heartbeatTimeoutMs = positive(options.heartbeatTimeout, 'heartbeatTimeout');
  const isDurable = options.begin === 'durable';
  const isLazy = options.record === 'lazily';
  if (options.record !== undefined && !isLazy && options.record !== 'at once')
    throw new TypeError(`record must be 'at once' or 'lazily'; got ${shown(options.record)}.`);
  if (isLazy && isDurable) throw new TypeError("A step cannot have both begin: 'durable' and record: 'lazily'.");
  if (isLazy && heartbeatTimeoutMs > 0)
    throw new TypeError("A step with record: 'lazily' cannot have a heartbeatTimeout: its beginning is not recorded.");
  return { retry, timeoutMs, heartbeatTimeoutMs, atMostOnce: isDurable && retry.maxAttempts === 1, isLazy };
}

function positive(duration: StepOptions['timeout'], what: string): number {
  if (duration === undefined) return 0;
  const ms = durationMs(duration, what);
  if (ms === 0) throw new TypeError(`${what} must be more than 0; leave it out for none.`);
  return ms;
}

/** @throws {TypeError} when the name cannot be part of a step id */
export function checkStepName(name: unknown): asserts name is string {
  checkId("A step's name", name, MAX_NAME_BYTES);
  if (/#\d+$/.test(name)) {
    throw new TypeError(`A step's name must not end with # and a number, which mark repeated names; got '${name}'.`);
  }
}
