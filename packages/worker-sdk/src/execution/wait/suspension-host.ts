import type { RecordingHost } from '../order/recording-host.js';

/** What giving the run back and resuming it needs of an execution. */
export interface SuspensionHost extends RecordingHost {
  /** The code has not come to its end, and no work of ours is under way that needs the lease. */
  readonly isIdle: boolean;
  /** The suspension is committed: the lease is over, the code stays where it stands. */
  onSuspended(): void;
  /** Forgets the code; the next claim of the run replays it. */
  forget(): void;
  release(reason: string): Promise<void>;
}
