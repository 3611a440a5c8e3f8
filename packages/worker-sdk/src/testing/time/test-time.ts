/** The store's view of a test database, in the kit's own words: types of optional packages must not be part of its declarations. */

/** Claimable runs that no worker serves. */
export interface UnservedRuns {
  readonly namespace: string;
  readonly taskQueue: string;
  readonly workflowType: string;
}

/** What the runs of a database are doing. */
export interface Standstill {
  readonly running: number;
  readonly isMoving: boolean;
  readonly dueInMs: number | null;
  readonly isAwaited: boolean;
  readonly unserved: readonly UnservedRuns[];
}

/** What a test waits for. */
export interface AwaitedRuns {
  readonly runIds: readonly string[];
  readonly workflowIds: readonly string[];
  readonly requestIds: readonly string[];
  readonly facts: boolean;
}

/** The time of one test database. */
export interface TestTime {
  now(): Promise<Date>;
  look(awaited: AwaitedRuns): Promise<Standstill>;
  skip(awaited: AwaitedRuns, ignoreUnserved: boolean): Promise<Standstill & { readonly hasMoved: boolean }>;
  move(ms: number): Promise<void>;
  dropLeases(leases: readonly { readonly runId: string; readonly leaseToken: number }[]): Promise<void>;
  close(): Promise<void>;
}
