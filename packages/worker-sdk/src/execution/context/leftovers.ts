import type { Logger } from 'pino';

const MAX_STEP_IDS = 20;

export interface Leftovers {
  /** Steps that are recorded, and that the code did not request. */
  readonly unrequested: readonly string[];
  /** Steps whose promise the code did not await. */
  readonly unawaited: readonly string[];
}

/**
 * Reports steps that most often mean a mistake in the workflow's code, once the code has ended.
 *
 * @param facts whose log is made when it is first used: most runs say nothing
 * @param level of calls that were not awaited
 */
export function reportLeftovers(
  facts: { readonly log: Logger },
  level: 'error' | 'warn',
  { unrequested, unawaited }: Leftovers,
): void {
  if (unrequested.length + unawaited.length === 0) return;
  const { log } = facts;
  if (unrequested.length > 0) {
    log.warn({ event: 'recorded_steps_not_requested', stepIds: unrequested.slice(0, MAX_STEP_IDS) });
  }
  if (unawaited.length > 0) log[level]({ event: 'step_not_awaited', stepIds: unawaited.slice(0, MAX_STEP_IDS) });
}
