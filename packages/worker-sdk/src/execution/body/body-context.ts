import type { StepContext } from '../../context.js';

/** The run that a body belongs to. */
export interface StepBodyHost {
  idempotencyKey(stepId: string): string;
  recordHeartbeat(stepId: string, attemptNumber: number, detail: unknown): void;
  lastHeartbeat(stepId: string): unknown;
}

/** The attempt that a body carries out. */
export interface BodyAttempt {
  readonly stepId: string;
  readonly attemptNumber: number;
  readonly countedAttempt: number;
  readonly host: StepBodyHost;
}

/** What the context takes from the body at work. */
export interface ActiveBody {
  readonly signal: AbortSignal;
  heartbeat(detail: unknown): void;
}

/** What the author's function is given. Its methods may be destructured, so they are bound. */
export class BodyContext implements StepContext {
  readonly stepId: string;
  readonly attemptNumber: number;
  readonly countedAttempt: number;
  readonly #body: ActiveBody;
  readonly #host: StepBodyHost;

  constructor(body: ActiveBody, { stepId, attemptNumber, countedAttempt, host }: BodyAttempt) {
    this.#body = body;
    this.#host = host;
    this.stepId = stepId;
    this.attemptNumber = attemptNumber;
    this.countedAttempt = countedAttempt;
  }

  get idempotencyKey(): string {
    return this.#host.idempotencyKey(this.stepId);
  }

  get signal(): AbortSignal {
    return this.#body.signal;
  }

  get heartbeat(): (detail?: unknown) => void {
    return (detail) => this.#body.heartbeat(detail);
  }

  get lastHeartbeat(): <T>() => T | undefined {
    return <T>() => this.#host.lastHeartbeat(this.stepId) as T | undefined;
  }
}
