import type { StepContext } from '../context.js';
import { HeartbeatTimeoutError, StepTimeoutError } from '../errors/errors.js';
import { runInScope } from './scope.js';

/** What became of one execution of a body. */
export type BodyResult =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: unknown };

export interface StepBodyOptions {
  readonly body: (step: StepContext) => unknown;
  readonly stepId: string;
  readonly attemptNumber: number;
  readonly tryNumber: number;
  readonly idempotencyKey: string;
  /** 0: none. */
  readonly timeoutMs: number;
  /** 0: none. */
  readonly heartbeatTimeoutMs: number;
  readonly uncancellable: boolean;
  readonly onHeartbeat: (detail: unknown) => void;
  readonly lastHeartbeat: () => unknown;
}

const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * One execution of a step's body. It ends when the body does or when one of its timeouts passes; then the body's signal is
 * aborted, and whatever it still does has no effect.
 */
export class StepBody {
  readonly #options: StepBodyOptions;
  readonly result: Promise<BodyResult>;
  #settle: (result: BodyResult) => void = () => undefined;
  #controller: AbortController | undefined;
  #abortReason: Error | undefined;
  #timeout: NodeJS.Timeout | undefined;
  #heartbeatTimeout: NodeJS.Timeout | undefined;

  constructor(options: StepBodyOptions) {
    this.#options = options;
    this.result = new Promise((resolve) => {
      this.#settle = (result) => {
        clearTimeout(this.#timeout);
        clearTimeout(this.#heartbeatTimeout);
        resolve(result);
      };
    });
  }

  get uncancellable(): boolean {
    return this.#options.uncancellable;
  }

  /** Why the body was asked to stop; undefined when it was not. */
  get abortReason(): Error | undefined {
    return this.#abortReason;
  }

  start(): Promise<BodyResult> {
    const { body, stepId, timeoutMs } = this.#options;
    if (timeoutMs > 0) {
      this.#timeout = setTimeout(
        () => this.#giveUp(new StepTimeoutError(`Step '${stepId}' did not end within its timeout of ${timeoutMs} ms.`)),
        Math.min(timeoutMs, MAX_TIMER_MS),
      );
    }
    this.#armHeartbeat();
    const step = this.#context();
    const run = async () => body(step);
    runInScope({ step }, run).then(
      (value) => this.#settle({ ok: true, value }),
      (error: unknown) => this.#settle({ ok: false, error }),
    );
    return this.result;
  }

  /** Asks the body to stop; its result still counts. */
  abort(reason: Error): void {
    if (this.#abortReason !== undefined) return;
    this.#abortReason = reason;
    this.#controller?.abort(reason);
  }

  #giveUp(error: Error): void {
    this.abort(error);
    this.#settle({ ok: false, error });
  }

  #armHeartbeat(): void {
    const { stepId, heartbeatTimeoutMs } = this.#options;
    if (heartbeatTimeoutMs === 0) return;
    clearTimeout(this.#heartbeatTimeout);
    this.#heartbeatTimeout = setTimeout(
      () =>
        this.#giveUp(
          new HeartbeatTimeoutError(`Step '${stepId}' reported no heartbeat within ${heartbeatTimeoutMs} ms.`),
        ),
      Math.min(heartbeatTimeoutMs, MAX_TIMER_MS),
    );
  }

  #context(): StepContext {
    const body = this;
    const { stepId, attemptNumber, tryNumber, idempotencyKey, onHeartbeat, lastHeartbeat } = this.#options;
    return {
      stepId,
      attemptNumber,
      tryNumber,
      idempotencyKey,
      // Most bodies never look at it.
      get signal() {
        if (body.#controller === undefined) {
          body.#controller = new AbortController();
          if (body.#abortReason !== undefined) body.#controller.abort(body.#abortReason);
        }
        return body.#controller.signal;
      },
      heartbeat(detail) {
        body.#armHeartbeat();
        if (detail !== undefined) onHeartbeat(detail);
      },
      lastHeartbeat: <T>() => lastHeartbeat() as T | undefined,
    };
  }
}
