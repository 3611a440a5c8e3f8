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
  readonly countedAttempt: number;
  /** 0: none. */
  readonly timeoutMs: number;
  /** 0: none. */
  readonly heartbeatTimeoutMs: number;
  readonly uncancellable: boolean;
  readonly host: StepBodyHost;
}

/** The run that a body belongs to. */
export interface StepBodyHost {
  idempotencyKey(stepId: string): string;
  recordHeartbeat(stepId: string, attemptNumber: number, detail: unknown): void;
  lastHeartbeat(stepId: string): unknown;
}

const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * One execution of a step's body. It ends when the body does or when one of its timeouts passes; then the body's signal is
 * aborted, and whatever it still does has no effect.
 */
export class StepBody {
  readonly #options: StepBodyOptions;
  #onEnd: ((result: BodyResult) => void) | undefined;
  #controller: AbortController | undefined;
  #abortReason: Error | undefined;
  #timeout: NodeJS.Timeout | undefined;
  #heartbeatTimeout: NodeJS.Timeout | undefined;

  constructor(options: StepBodyOptions) {
    this.#options = options;
  }

  get uncancellable(): boolean {
    return this.#options.uncancellable;
  }

  /** Why the body was asked to stop; undefined when it was not. */
  get abortReason(): Error | undefined {
    return this.#abortReason;
  }

  /** @param onEnd called once, before this returns when the body returns no promise */
  start(onEnd: (result: BodyResult) => void): void {
    this.#onEnd = onEnd;
    const { body, stepId, timeoutMs } = this.#options;
    if (timeoutMs > 0) {
      this.#timeout = setTimeout(
        () => this.#giveUp(new StepTimeoutError(`Step '${stepId}' did not end within its timeout of ${timeoutMs} ms.`)),
        Math.min(timeoutMs, MAX_TIMER_MS),
      );
    }
    this.#armHeartbeat();
    const step = new BodyContext(this, this.#options);
    let returned: unknown;
    let isPromise: boolean;
    try {
      returned = runInScope({ step }, () => body(step));
      // Asks somebody else's object, which may throw.
      isPromise = isThenable(returned);
    } catch (error) {
      this.#settle({ ok: false, error });
      return;
    }
    if (!isPromise) {
      this.#settle({ ok: true, value: returned });
      return;
    }
    Promise.resolve(returned).then(
      (value) => this.#settle({ ok: true, value }),
      (error: unknown) => this.#settle({ ok: false, error }),
    );
  }

  /** Asks the body to stop; its result still counts. */
  abort(reason: Error): void {
    if (this.#abortReason !== undefined) return;
    this.#abortReason = reason;
    this.#controller?.abort(reason);
  }

  /** Made on demand: most bodies never look at it. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#abortReason !== undefined) this.#controller.abort(this.#abortReason);
    }
    return this.#controller.signal;
  }

  heartbeat(detail: unknown): void {
    this.#armHeartbeat();
    const { host, stepId, attemptNumber } = this.#options;
    if (detail !== undefined) host.recordHeartbeat(stepId, attemptNumber, detail);
  }

  #settle(result: BodyResult): void {
    clearTimeout(this.#timeout);
    clearTimeout(this.#heartbeatTimeout);
    const onEnd = this.#onEnd;
    this.#onEnd = undefined;
    onEnd?.(result);
  }

  #giveUp(error: Error): void {
    this.abort(error);
    this.#settle({ ok: false, error });
  }

  #armHeartbeat(): void {
    const { stepId, heartbeatTimeoutMs } = this.#options;
    if (heartbeatTimeoutMs === 0 || this.#onEnd === undefined) return;
    clearTimeout(this.#heartbeatTimeout);
    this.#heartbeatTimeout = setTimeout(
      () =>
        this.#giveUp(
          new HeartbeatTimeoutError(`Step '${stepId}' reported no heartbeat within ${heartbeatTimeoutMs} ms.`),
        ),
      Math.min(heartbeatTimeoutMs, MAX_TIMER_MS),
    );
  }
}

/** What a body is given. Its functions may be taken out of it, so they are bound. */
class BodyContext implements StepContext {
  readonly stepId: string;
  readonly attemptNumber: number;
  readonly countedAttempt: number;
  readonly #body: StepBody;
  readonly #options: StepBodyOptions;

  constructor(body: StepBody, options: StepBodyOptions) {
    this.#body = body;
    this.#options = options;
    this.stepId = options.stepId;
    this.attemptNumber = options.attemptNumber;
    this.countedAttempt = options.countedAttempt;
  }

  get idempotencyKey(): string {
    return this.#options.host.idempotencyKey(this.stepId);
  }

  get signal(): AbortSignal {
    return this.#body.signal;
  }

  get heartbeat(): (detail?: unknown) => void {
    return (detail) => this.#body.heartbeat(detail);
  }

  get lastHeartbeat(): <T>() => T | undefined {
    return <T>() => this.#options.host.lastHeartbeat(this.stepId) as T | undefined;
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    'then' in value &&
    typeof (value as { then: unknown }).then === 'function'
  );
}
