import type { GetRunResponse, WorkflowRun } from '@perdure/proto';
import { refuseUnknownKeys } from '../options.js';
import type { Signal } from '../signal.js';
import type { Update } from '../update.js';
import {
  type ActionOptions,
  dismissRun,
  type ForkOptions,
  forkRun,
  type RestartOptions,
  restartRun,
  retryRun,
} from './act-on-run.js';
import { awaitResult, type ClientContext } from './await-result.js';
import { completeStep, failStep, skipStep } from './end-step.js';
import { type PauseOptions, pauseBy, resumeBy } from './pause-options.js';
import { readState } from './read-state.js';
import { ResultDeadline, type ResultOptions } from './result-deadline.js';
import { retryUntilAnswered } from './retry-until-answered.js';
import { type RunSummary, runSummary } from './run-summary.js';
import { type SignalArguments, sendSignal } from './send-signal.js';
import { sendUpdate, type UpdateArguments } from './send-update.js';

/** How a handle reaches its run; for the testing kit. */
export let contextOf: (handle: RunHandle<unknown>) => ClientContext;

/** One run: awaits its result, reads it, cancels, terminates, pauses, resumes or deletes it. Made by a client. */
export class RunHandle<Output = unknown> {
  /** A UUIDv7. */
  readonly runId: string;
  /** Empty when the handle was made from a run id alone. */
  readonly workflowId: string;
  /** False when an equal earlier start had started the run, and for a handle made from a run id. */
  readonly created: boolean;
  readonly #context: ClientContext;
  readonly #workflowType: string | undefined;

  static {
    contextOf = (handle) => handle.#context;
  }

  /**
   * Made by the client.
   *
   * @param workflowType for messages; undefined when only the run id is known
   */
  constructor(
    run: { readonly runId: string; readonly workflowId: string; readonly created: boolean },
    workflowType: string | undefined,
    context: ClientContext,
  ) {
    this.runId = run.runId;
    this.workflowId = run.workflowId;
    this.created = run.created;
    this.#workflowType = workflowType;
    this.#context = context;
  }

  /**
   * Waits for the run to end, through outages of the server.
   *
   * @returns what the workflow returned
   * @throws {WorkflowFailedError} with the workflow's own error as `cause`
   * @throws {WorkflowCancelledError | WorkflowTerminatedError}
   * @throws {AwaitTimeoutError} after `timeout`; the run continues
   * @throws the signal's reason when it is aborted; the run continues
   */
  async result(options: ResultOptions = {}): Promise<Output> {
    refuseUnknownKeys('A result', options, ['timeout', 'signal']);
    return (await awaitResult(this.#context, this, this.#workflowType, new ResultDeadline(options))) as Output;
  }

  /**
   * The run as it is now.
   *
   * @throws {RpcError} RUN_NOT_FOUND; UNAVAILABLE when no server has answered for 30 s
   */
  async get(): Promise<RunSummary> {
    const { service, namespace, codec, outage } = this.#context;
    const { run } = await retryUntilAnswered<GetRunResponse>(outage, (options) =>
      service.getRun({ namespace, runId: this.runId }, options),
    );
    return runSummary(run as WorkflowRun, codec);
  }

  /**
   * Sends a signal to the run. It is kept until a step of the run receives it.
   *
   * @param signal made with `signal(name)`, or its name
   * @returns once it is committed
   * @throws {RpcError} RUN_CLOSED when the run has ended; RUN_NOT_FOUND; TOO_MANY_SIGNALS
   * @throws {InvalidInputError} when the payload does not fit the signal's schema
   */
  async signal<Sent>(signal: Signal<Sent, unknown> | string, ...sent: SignalArguments<Sent>): Promise<void> {
    await sendSignal(this.#context, { runId: this.runId }, signal as Signal | string, sent);
  }

  /**
   * Sends an update to the run and waits for the answer of its code.
   *
   * @param update made with `update(name)`, or its name
   * @returns what the handler returned
   * @throws the handler's error
   * @throws {UpdateRefusedError} when the code refused it; nothing was carried out
   * @throws {UpdateTimeoutError} after `timeout`; the update stays with the run, and a repeat with the same `requestId` waits for its answer
   * @throws {InvalidInputError} when the input does not fit the update's schema
   * @throws {RpcError} RUN_CLOSED when the run has ended, also without answering; RUN_NOT_FOUND; TOO_MANY_UPDATES
   */
  async update<Sent, Answer>(
    update: Update<Sent, Answer, unknown> | string,
    ...sent: UpdateArguments<Sent>
  ): Promise<Answer> {
    return (await sendUpdate(this.#context, { runId: this.runId }, update as Update | string, sent)) as Answer;
  }

  /**
   * The state that the run's code has set last, also after its end; needs no worker.
   *
   * @returns undefined when the code has set none
   * @throws {RpcError} RUN_NOT_FOUND; UNAVAILABLE when no server has answered for 30 s
   */
  async state<State = unknown>(): Promise<State | undefined> {
    return (await readState(this.#context, { runId: this.runId })) as State | undefined;
  }

  /**
   * Requests that the run end; its code may clean up. A second request changes nothing.
   *
   * @param reason recorded with the run
   * @throws {RpcError} RUN_NOT_FOUND; WRONG_RUN_STATE when it has ended otherwise
   */
  async cancel(reason = ''): Promise<void> {
    const { service, namespace, outage } = this.#context;
    await retryUntilAnswered(outage, (options) => service.cancelRun({ namespace, runId: this.runId, reason }, options));
  }

  /**
   * Ends the run immediately; its code cannot clean up.
   *
   * @param reason recorded with the run
   * @throws {RpcError} RUN_NOT_FOUND; WRONG_RUN_STATE when it has ended otherwise
   */
  async terminate(reason = ''): Promise<void> {
    const { service, namespace, outage } = this.#context;
    await retryUntilAnswered(outage, (options) =>
      service.terminateRun({ namespace, runId: this.runId, reason }, options),
    );
  }

  /**
   * Pauses the run: once this resolves, no worker claims it and no step of it begins. Bodies under way may end and are recorded; timers that
   * fall due and messages wait. Timeouts of the run still count. A second pause changes nothing.
   *
   * @throws {RpcError} RUN_NOT_FOUND; RUN_CLOSED when it has ended
   */
  async pause(options: PauseOptions = {}): Promise<void> {
    const { service, namespace, outage } = this.#context;
    const how = pauseBy(options);
    await retryUntilAnswered(outage, (call) => service.pauseRun({ namespace, runId: this.runId, ...how }, call));
  }

  /**
   * Lets the run continue. Resuming a run that is not paused changes nothing.
   *
   * @throws {RpcError} RUN_NOT_FOUND; RUN_CLOSED when it has ended
   */
  async resume(options: Pick<PauseOptions, 'actor'> = {}): Promise<void> {
    const { service, namespace, outage } = this.#context;
    const how = resumeBy(options);
    await retryUntilAnswered(outage, (call) => service.resumeRun({ namespace, runId: this.runId, ...how }, call));
  }

  /**
   * Retries a run that has ended as FAILED, CANCELLED or TERMINATED: the same run continues from the step that failed, or from where it was
   * cancelled or terminated. Earlier steps keep their outcomes.
   *
   * @returns once it is claimable again; {@link result} then waits for its next end
   * @throws {RpcError} WRONG_RUN_STATE when it is open or has a result; WORKFLOW_ID_IN_USE when another run with its workflow id is open;
   *   RUN_NOT_FOUND
   */
  async retry(options: ActionOptions = {}): Promise<void> {
    await retryRun(this.#context, { runId: this.runId }, options);
  }

  /**
   * Starts another run with the same type, task queue, input and limits, from the start.
   *
   * @returns the new run
   * @throws {RpcError} WORKFLOW_ID_IN_USE when an open run has the workflow id; RUN_NOT_FOUND
   */
  async restart(options: RestartOptions = {}): Promise<RunHandle<Output>> {
    const run = await restartRun(this.#context, { runId: this.runId }, options);
    return new RunHandle<Output>(run, this.#workflowType, this.#context);
  }

  /**
   * Starts another run from a step of this one, which may be open and does not change. Steps that the code has requested before keep their outcomes
   * and are not executed again; the step and what follows are. Steps that had no outcome yet, timers and waits begin again; signals that no kept step has
   * received are not taken over, nor is a cancel request.
   *
   * @param stepId as `perdure run history` shows it: its name, or `name#2` for the second step of the name
   * @returns the new run
   * @throws {RpcError} STEP_NOT_FOUND; WRONG_RUN_STATE when the run was compensated; WORKFLOW_ID_IN_USE when an open run has the workflow id;
   *   RUN_NOT_FOUND
   */
  async fork(stepId: string, options: ForkOptions = {}): Promise<RunHandle<Output>> {
    const run = await forkRun(this.#context, { runId: this.runId }, stepId, options);
    return new RunHandle<Output>(run, this.#workflowType, this.#context);
  }

  /**
   * Takes the FAILED run from the dead letters: somebody has dealt with its failure in another way. It stays FAILED and may be retried; when
   * it then fails again, it is a dead letter again.
   *
   * @returns false when it was dismissed or restarted before; nothing is changed then
   * @throws {RpcError} WRONG_RUN_STATE when it has not FAILED; RUN_NOT_FOUND
   */
  async dismiss(options: ActionOptions = {}): Promise<boolean> {
    return dismissRun(this.#context, { runId: this.runId }, options);
  }

  /**
   * Gives a step a result by hand, in place of its body or of what it waits for: the code of the run sees it as if it had come by itself. A
   * body under way is asked to stop through its signal, and what it returns has no effect. When the run has FAILED, or was CANCELLED or TERMINATED,
   * the step that failed or was interrupted is given the result, and {@link retry} continues with it.
   *
   * @param stepId as `perdure run history` shows it: its name, or `name#2` for the second step of the name
   * @param result undefined for none; a timer has none
   * @throws {RpcError} STEP_NOT_FOUND when the code has not requested it yet; STEP_ENDED when its outcome is recorded; WRONG_RUN_STATE when the run
   *   has a result; RUN_NOT_FOUND
   */
  async completeStep(stepId: string, result?: unknown, options: ActionOptions = {}): Promise<void> {
    await completeStep(this.#context, { runId: this.runId }, stepId, result, options);
  }

  /** Gives a step an error by hand; no attempt follows. See {@link completeStep}. */
  async failStep(stepId: string, error: unknown, options: ActionOptions = {}): Promise<void> {
    await failStep(this.#context, { runId: this.runId }, stepId, error, options);
  }

  /** Skips a step by hand: the code is given undefined, and the step is SKIPPED. See {@link completeStep}. */
  async skipStep(stepId: string, options: ActionOptions = {}): Promise<void> {
    await skipStep(this.#context, { runId: this.runId }, stepId, options);
  }

  /**
   * Deletes the run, its steps and payloads permanently. Its workflow id and request id may be used again.
   *
   * @throws {RpcError} WRONG_RUN_STATE while the run is open; RUN_NOT_FOUND when it does not exist
   */
  async delete(): Promise<void> {
    const { service, namespace, outage } = this.#context;
    await retryUntilAnswered(outage, (options) => service.deleteRun({ namespace, runId: this.runId }, options));
  }
}
