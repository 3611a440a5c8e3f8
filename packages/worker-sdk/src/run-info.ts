/** A run's identity and place, as its code sees it. Frozen. */
export interface RunInfo {
  /** A UUIDv7, unique among all runs. */
  readonly runId: string;
  /** The id chosen at the start, 1 to 255 bytes; unique among open runs of the namespace. */
  readonly workflowId: string;
  /** The workflow's name. */
  readonly workflowType: string;
  readonly namespace: string;
  /** The queue whose workers execute it. */
  readonly taskQueue: string;
  /** Build that the run was started for; empty when the start named none. */
  readonly build: string;
  /** Attempt of the run, from 1; rises with every run-level retry and every lost worker. */
  readonly attempt: number;
  /** When the start was committed. */
  readonly createdAt: Date;
  /** When a worker first claimed the run. */
  readonly startedAt: Date;
}
