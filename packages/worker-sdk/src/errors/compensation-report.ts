/** What was undone when a run failed, and what could not be. */
export interface CompensationReport {
  /** PARTIAL: `failed` is not empty. */
  readonly status: 'COMPLETE' | 'PARTIAL';
  /** Ids of the steps that have undone something, in the order in which they completed; at most 1,000. */
  readonly compensated: readonly string[];
  /** What could not be undone, with the error of the last try; at most 100. */
  readonly failed: readonly FailedCompensation[];
}

/** A compensation that has used up its tries. */
export interface FailedCompensation {
  readonly stepId: string;
  readonly error: Error;
}
