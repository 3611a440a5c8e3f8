import { createHash } from 'node:crypto';
import { StepKind } from '@perdure/proto';
import type { WaitOptions } from '../../context.js';
import { durationMs } from '../../duration.js';
import { refuseUnknownKeys } from '../../options.js';
import { checkStepName } from '../step/step-options.js';
import type { AwaitedStep } from './signals.js';

/**
 * The id of a promise, known before it is recorded. A digest, so that the run id, with which much more may be done, cannot be read from
 * an id that is given to others. The server checks it.
 */
export function promiseIdOf(runId: string, stepId: string): string {
  const digest = createHash('sha256').update(`perdure promise\n${runId}\n${stepId}`).digest();
  return digest.subarray(0, 20).toString('hex');
}

/** @throws {TypeError} naming what is wrong */
export function promiseOptions(
  name: string,
  options: WaitOptions | undefined,
): { readonly timeoutMs: number | undefined } {
  checkStepName(name);
  if (options !== undefined) refuseUnknownKeys(`Promise '${name}'`, options, ['timeout']);
  const timeout = options?.timeout;
  return { timeoutMs: timeout === undefined ? undefined : durationMs(timeout, `The timeout of promise '${name}'`) };
}

export function promiseWait(promiseId: string, name: string, timeoutMs: number | undefined): AwaitedStep {
  return {
    name,
    kind: StepKind.PROMISE,
    awaits: { case: 'promise', value: promiseId },
    timeoutMs,
    acceptsJson: true,
    received: async (value) => value,
  };
}
