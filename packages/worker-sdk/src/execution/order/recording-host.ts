import type { LeasedCalls } from '../lease/leased-calls.js';
import type { Faults } from '../run/faults.js';
import type { RunFacts } from '../run/run-facts.js';
import type { WorkCount } from '../run/work-count.js';
import type { DeliveryQueue } from './delivery-queue.js';
import type { Unrecorded } from './unrecorded.js';

/** What everything that records needs of an execution: calls under the lease, and the order of results. */
export interface RecordingHost {
  readonly facts: RunFacts;
  readonly calls: LeasedCalls;
  readonly delivery: DeliveryQueue;
  readonly unrecorded: Unrecorded;
  /** While it is not zero, the run is not suspended. */
  readonly work: WorkCount;
  readonly faults: Faults;
  /** The server says that a cancel is requested. */
  cancel(): void;
  /** The server says that the run is paused. */
  pause(): void;
  /** Ms until a time of the database's clock. */
  untilMs(time: Date): number;
}
