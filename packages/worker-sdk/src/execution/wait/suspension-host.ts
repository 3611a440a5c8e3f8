import type { RecordingHost } from '../order/recording-host.js';

/** What giving the run back and resuming it needs of an execution. */
export interface SuspensionHost extends RecordingHost {
  /** The worker keeps suspended runs in memory. */
  readonly isKept: boolean;
  /** The code has not ended, and no work in flight needs the lease. */
  readonly isIdle: boolean;
  /** The suspension is committed: the lease is over, the code stays in memory. */
  onSuspended(): void;
  /** It is known what had arrived: a cancel that waited for it may be carried out. */
  onArrivalsTaken(): void;
  /** Forgets the code; the next claim of the run replays it. */
  forget(): void;
}
