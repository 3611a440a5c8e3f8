import { type Failure, type FailureFacts, type FailureOriginFacts, failureFacts } from '@perdure/proto';

/** What Perdure knows of an error that it has recorded. */
export type ErrorFacts = FailureFacts;
/** Where an error began. */
export type ErrorOrigin = FailureOriginFacts;

const FACTS = Symbol.for('perdure.errorFacts');

/**
 * What Perdure knows of an error that it has recorded: one that code caught from a step, a child or a timeout, the error of a run, and each
 * `cause` of these.
 *
 * @returns undefined for any other error
 */
export function errorFacts(error: unknown): ErrorFacts | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  try {
    return (error as { readonly [FACTS]?: ErrorFacts })[FACTS];
  } catch {
    // A proxy may refuse even that.
    return undefined;
  }
}

/** Adds what is known of a recorded failure to its error: invisible to loops over the error's properties. */
export function addFacts(error: Error, failure: Failure, here: ErrorOrigin | undefined): void {
  Object.defineProperty(error, FACTS, { value: failureFacts(failure, here), configurable: true });
}

/**
 * A place in a run.
 *
 * @param stepId empty: the code itself, or the run as a whole
 * @param attempt counted, from 1; 0: not known
 * @param maxAttempts `Infinity` or 0: no limit
 */
export function originIn(
  { runId, workflowType }: Pick<ErrorOrigin, 'runId' | 'workflowType'>,
  stepId: string,
  attempt = 0,
  maxAttempts = 0,
): ErrorOrigin {
  return { runId, workflowType, stepId, attempt, maxAttempts: Number.isFinite(maxAttempts) ? maxAttempts : 0 };
}
