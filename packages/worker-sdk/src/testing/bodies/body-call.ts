/** One execution of the body of a step, in any worker of the environment. */
export interface BodyCall {
  /** The name that the code gave to the step. */
  readonly step: string;
  /** The name, or `name#n`. */
  readonly stepId: string;
  readonly namespace: string;
  readonly workflowType: string;
  readonly workflowId: string;
  readonly runId: string;
  /** The same for each execution of this step of this run. */
  readonly idempotencyKey: string;
  /** The number of the attempt, lost ones included. */
  readonly attemptNumber: number;
  /** Whether a stub was called instead of the real body. */
  readonly isStubbed: boolean;
  /** `begin: 'durable'` with one attempt: it must not be executed twice. */
  readonly isAtMostOnce: boolean;
  /** What the body returned or threw; `running` until then. */
  readonly outcome:
    | { readonly kind: 'running' }
    | { readonly kind: 'returned'; readonly value: unknown }
    | { readonly kind: 'threw'; readonly error: unknown };
}
