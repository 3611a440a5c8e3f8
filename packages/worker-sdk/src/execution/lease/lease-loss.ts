import type { Logger } from 'pino';

/** How a lease was lost. */
export type LeaseLoss =
  /** By this process's clock it can no longer be trusted: the process stalled, or no renewal came through. */
  | 'expired'
  /** The server says that it is not the run's current one. */
  | 'refused'
  /** The server says that the run was terminated. */
  | 'terminated';

/** Logs a lost lease; a terminated run is no reason for a warning. */
export function logLeaseLoss(log: Logger, leaseToken: number, how: LeaseLoss): void {
  switch (how) {
    case 'terminated':
      log.info({ event: 'run_terminated', leaseToken });
      return;
    case 'expired':
      log.warn(
        { event: 'lease_lost', leaseToken, how },
        'The lease ran out: the process stalled, or no renewal came through. Another worker continues the run.',
      );
      return;
    case 'refused':
      log.warn(
        { event: 'lease_lost', leaseToken, how },
        'The server refused the lease: it expired there, or the run was released, ended or terminated meanwhile.',
      );
  }
}
