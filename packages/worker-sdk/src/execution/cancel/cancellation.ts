import { CancelledError, LeaseLostError } from '../../errors/errors.js';
import { LazySignal } from '../../lazy-signal.js';
import type { StepBody } from '../body/step-body.js';
import type { ExecutionEnd } from '../lease/lease-tenure.js';
import type { StepRef } from '../order/program.js';

/**
 * What a run's cancel request does to its code and to the bodies at work.
 *
 * Bodies are stopped as soon as the request is known: what they do is not part of the order of results. The code learns of it
 * at a place in that order, which is recorded: its signal is aborted there, and so it is in every replay.
 */
export class Cancellation {
  readonly #signal = new LazySignal();
  readonly #bodies = new Set<StepBody>();
  #isRequested = false;

  get isRequested(): boolean {
    return this.#isRequested;
  }

  /** The code's signal. */
  get signal(): AbortSignal {
    return this.#signal.signal;
  }

  isCancelled(step: StepRef): boolean {
    return this.#isRequested && !step.uncancellable;
  }

  /** A cancel is requested: bodies that may be cancelled are told to stop. */
  request(): void {
    this.#isRequested = true;
    if (this.#bodies.size === 0) return;
    const reason = new CancelledError();
    for (const body of this.#bodies) if (!body.uncancellable) body.abort(reason);
  }

  /** The code learns of it. */
  observe(): void {
    this.#signal.abort(new CancelledError());
  }

  bodyStarts(body: StepBody): void {
    this.#bodies.add(body);
    if (this.#isRequested && !body.uncancellable) body.abort(new CancelledError());
  }

  bodyEnded(body: StepBody): void {
    this.#bodies.delete(body);
  }

  /** The run is over for this worker: aborts bodies and the code's signal, with the reason. The error is made only when needed. */
  stop(how: ExecutionEnd): void {
    // Code that was suspended is only forgotten: nothing has happened that it must be told.
    if (how === 'suspended' || (this.#bodies.size === 0 && !this.#signal.isWatched)) return;
    const reason = new LeaseLostError(WHY_STOPPED[how]);
    for (const body of this.#bodies) body.abort(reason);
    this.#signal.abort(reason);
  }
}

/** The reason that bodies still at work find in their signal. */
const WHY_STOPPED: Readonly<Record<Exclude<ExecutionEnd, 'suspended'>, string>> = {
  completed: 'The run has ended without waiting for this step.',
  failed: 'The run has ended without waiting for this step.',
  continued: 'The run has ended without waiting for this step.',
  cancelled: 'The run has ended without waiting for this step.',
  terminated: 'The run was terminated.',
  retrying: 'The attempt of the run has ended; another one follows.',
  held: 'The worker cannot continue the run; it is held until somebody resumes it.',
  released: 'The worker has given the run back; another worker continues it.',
  lost: 'The lease of the run was lost; another worker continues it.',
};
