/** A lease that a run has lost because its worker died or stalled. */
export interface LostLease {
  /** Rises with every claim of the run. */
  readonly leaseToken: number;
  readonly workerId: string;
  /** The name of the worker's process. */
  readonly workerIdentity: string;
  /** Empty: it named none. */
  readonly build: string;
  /** The worker's last sign of life, by the database's clock. */
  readonly lastSeenAt: Date;
  /** When the run was reclaimed. */
  readonly lostAt: Date;
  /** Steps whose bodies were recorded as begun, at most 10; empty: between steps, or within a body that had just begun. */
  readonly openSteps: readonly string[];
  /** Whether it counts towards `maxLostLeases`: the run was the most likely cause. */
  readonly counted: boolean;
}
