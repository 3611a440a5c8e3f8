import type { StepContext } from '../../context.js';
import { HeartbeatTimeoutError, StepTimeoutError } from '../../errors/errors.js';
import { LazySignal } from '../../lazy-signal.js';
import { type BodyAttempt, BodyContext } from './body-context.js';
import { runInScope } from './scope.js';

/** What became of one execution of a body. */
export type BodyResult =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: unknown };

export interface StepBodyOptions extends BodyAttempt {
  readonly body: (step: StepContext) => unknown;
  /** 0: none. */
  readonly timeoutMs: number;
  /** 0: none. */
  readonly heartbeatTimeoutMs: number;
  readonly uncancellable: boolean;
}

const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * One execution of a step's body. It ends when the body does or when one of its timeouts passes; then the body's signal is
 * aborted, and whatever it still does has no effect.
 */
export class StepBody {
  readonly #options: StepBodyOptions;
  #onEnd: ((result: BodyResult) => void) | undefined;
  readonly #abort = new LazySignal();
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
    return this.#abort.reason;
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
    this.#abort.abort(reason);
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
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

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    'then' in value &&
    typeof (value as { then: unknown }).then === 'function'
  );
}
