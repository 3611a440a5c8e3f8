import { MAX_DURATION_MS } from '../../duration.js';
import { markNonRetryable } from '../../errors/failure.js';
import { currentScope } from '../body/scope.js';

/** What `begin` throws is a rejection, as of every other call. */
export function settledOr(begin: () => Promise<unknown>): Promise<unknown> {
  try {
    return begin();
  } catch (error) {
    return Promise.reject(error);
  }
}

/** @throws {TypeError} when it is not a time, or too far ahead by the workflow's own clock, which is the same in every replay */
export function checkUntil(until: Date, now: Date): void {
  if (!(until instanceof Date) || Number.isNaN(until.getTime())) {
    throw new TypeError(`ctx.sleepUntil needs a valid Date; got ${String(until)}.`);
  }
  if (until.getTime() - now.getTime() > MAX_DURATION_MS) {
    throw new TypeError(`ctx.sleepUntil takes a time at most 10 years ahead; got ${until.toISOString()}.`);
  }
}

/** @throws {TypeError} which no retry could repair */
export function refuseInsideBody(what: string, name: string): void {
  const { step } = currentScope();
  if (step !== undefined) {
    throw markNonRetryable(
      new TypeError(
        `${what}${name === '' ? '' : `('${name}')`} was called inside the body of step '${step.stepId}'. Steps cannot be nested: call it from the workflow.`,
      ),
    );
  }
}
