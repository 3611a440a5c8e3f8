import type { Logger } from 'pino';
import type { ChildOptions, ChildRun, MapOptions } from './child.js';
import type { Duration } from './duration.js';
import type { EventDefinition } from './event.js';
import type { RunInfo } from './run-info.js';
import type { Saga } from './saga.js';
import type { Signal } from './signal.js';
import type { StepContext, StepOptions } from './step.js';
import type { Update } from './update.js';

export type { RunInfo } from './run-info.js';
export type { StepContext, StepOptions } from './step.js';

/** A workflow that a child executes; made with `workflow` or `activity`. */
export interface ChildWorkflow<Input = unknown, Output = unknown> {
  readonly name: string;
  /** Of an activity. */
  readonly callDefaults?: Pick<ChildOptions, 'startTimeout' | 'runTimeout'>;
  /** For the type checker only. */
  readonly types?: { readonly input: Input; readonly output: Output };
}

/** How long to wait for something from outside. */
export interface WaitOptions {
  /** 0 to 10 years; 0: only what is there already. */
  readonly timeout: Duration;
}

/** Which events a wait is for, and how long to wait. */
export interface EventWaitOptions {
  /** Only events published with this key, 1 to 255 bytes; default: any event with the name. */
  readonly key?: string;
  /** 0 to 10 years; 0: only what `since` finds. Default: no limit. */
  readonly timeout?: Duration;
  /**
   * Events published before the wait count as well: from this long before its beginning on, or from this time on, as far as the server
   * keeps them (24 hours by default). The oldest comes first, and a run receives none twice. Default: events published after its beginning.
   */
  readonly since?: Duration | Date;
}

/** A promise that anyone who knows its id resolves or rejects, once. */
export interface DurablePromise<Value> {
  /** Give it to who is to settle the promise: 40 characters, which nobody guesses, and which do not tell the run id. */
  readonly id: string;
  /**
   * Waits without occupying a slot; the same promise each time.
   *
   * @returns what it was resolved with; null when its timeout has passed
   * @throws what it was rejected with
   * @throws {CancelledError} when the run is being cancelled
   */
  result(): Promise<Value>;
}

/** Carries out an update. */
export type UpdateHandler<Received, Output> = (
  input: Received,
  update: {
    /** Identifies the update in its run. */
    readonly requestId: string;
    /** Who sent it, for people; may be empty. */
    readonly sender: string;
  },
) => Output | Promise<Output>;

/** Options of a handler. */
export interface HandleOptions<Received> {
  /** Called before the handler, without effects; may look at what the code has in memory. Throw to refuse the update. */
  readonly validate?: (input: Received) => void;
}

/** Options of {@link WorkflowContext.continueAsNew}; each is as before when it is absent. */
export interface ContinueOptions {
  /** Whose workers execute the new run. */
  readonly taskQueue?: string;
  /** −100 to 100. */
  readonly priority?: number;
  /** Time until the new run begins, at most 10 years; default 0. */
  readonly startDelay?: Duration;
  /** Counted from the start of the new run; 0: no limit. */
  readonly runTimeout?: Duration;
  /** 0: no limit. */
  readonly executionTimeout?: Duration;
}

/**
 * What a workflow's function receives. Code between steps must be deterministic: given the same results, it calls the same
 * steps and sleeps in the same order. Take time, randomness and everything from outside from here.
 */
export interface WorkflowContext extends Saga {
  /** The run that is being executed. */
  readonly run: RunInfo;
  /**
   * Executes `body` and records its result, so that a replay returns the result without executing the body again.
   * The body is executed at least once: pass `idempotencyKey` to services that must not act twice.
   *
   * @param name 1 to 200 bytes without control characters; the n-th use of a name in a run gets the id `name#n`
   * @param body sync or async; may have side effects
   * @param options see {@link StepOptions}
   * @returns what the body returned, after a round trip through the codec
   * @throws what the body threw in its last attempt
   * @throws {CancelledError} when the run is being cancelled
   * @throws {TypeError} naming the option that is wrong
   */
  step<T>(name: string, body: (step: StepContext) => T | PromiseLike<T>, options?: StepOptions): Promise<Awaited<T>>;
  /**
   * Waits without occupying a slot; never ends early by the database's clock.
   *
   * @param duration 0 to 10 years
   * @throws {CancelledError} when the run is being cancelled
   */
  sleep(duration: Duration): Promise<void>;
  /** Waits like {@link sleep}; the name identifies the sleep in the run's history, like that of a step. */
  sleep(name: string, duration: Duration): Promise<void>;
  /**
   * Waits until a time without occupying a slot.
   *
   * @param time at most 10 years ahead; a past time does not wait
   * @throws {CancelledError} when the run is being cancelled
   */
  sleepUntil(time: Date): Promise<void>;
  /** Waits like {@link sleepUntil}; the name identifies the sleep in the run's history, like that of a step. */
  sleepUntil(name: string, time: Date): Promise<void>;
  /**
   * Waits for a signal without occupying a slot. Signals are kept from the moment they are sent: each is received exactly once, the
   * oldest of the name first, also when it was sent before anyone waited. A step named like the signal records it.
   *
   * @param signal made with `signal(name)`, or its name
   * @returns what was sent; with `timeout`: null when nothing came in time
   * @throws {CancelledError} when the run is being cancelled
   * @throws {InvalidInputError} when what was sent does not fit the signal's schema
   */
  waitForSignal<Received>(signal: Signal<never, Received> | string): Promise<Received>;
  waitForSignal<Received>(signal: Signal<never, Received> | string, options: WaitOptions): Promise<Received | null>;
  /** The signals of a name, one after the other, without an end: `for await (const item of ctx.signals(added)) …`; leave it with `break`. */
  signals<Received>(signal: Signal<never, Received> | string): AsyncGenerator<Received, never>;
  /**
   * Sends a signal to another run, exactly once; recorded as a step named like the signal.
   *
   * @param run a run id, or a workflow id: then its open run
   * @throws {RpcError} RUN_CLOSED, RUN_NOT_FOUND, TOO_MANY_SIGNALS
   */
  signalRun<Sent>(
    run: { readonly runId: string } | { readonly workflowId: string },
    signal: Signal<Sent, unknown> | string,
    payload?: Sent,
  ): Promise<void>;
  /**
   * Handles an update of the run, from now on: the handler is called for each, in the order of sending, and what it returns or throws is
   * the answer to its sender. Several handlers may be at work at once. The run ends when every update that it has received is answered.
   *
   * @param update made with `update(name)`, or its name
   * @param handler part of the workflow's code: deterministic, with steps and sleeps; a replay calls it again
   * @throws {TypeError} when the update has a handler already
   */
  handle<Received, Output>(
    update: Update<never, Output, Received> | string,
    handler: UpdateHandler<Received, Output>,
    options?: HandleOptions<Received>,
  ): void;
  /**
   * Ends the run as CONTINUED and continues as a new run with another input, in one commit: the same workflow and workflow id, an empty
   * history. Signals and updates that no step has received, the state and a cancel request move along; a parent, and whoever waits for
   * the result, waits for the end of the chain. Branches that are open end as at a return.
   *
   * @param input of the new run
   * @returns never: nothing after it is executed, also no `finally`. Write `return ctx.continueAsNew(…)`
   * @throws {TypeError} naming the option that is wrong, or the part of the input that cannot be encoded
   */
  continueAsNew(input?: unknown, options?: ContinueOptions): Promise<never>;
  /**
   * Sets the state of the run, which `handle.state()` and `perdure run state` read at any time without a worker. The code does not
   * wait for it. It is stored before the run is suspended or ends, and before an update is answered; a replay sets it again.
   *
   * @param value anything the codec can encode; replaces the state before
   * @throws {PayloadTooLargeError} when it is larger than the server accepts, 2 MiB by default
   */
  setState(value: unknown): void;
  /**
   * Starts another workflow and waits for its end without occupying a slot. A step named like the workflow records its result. Children
   * that are started together are sent together, and their ends share wake-ups of this run.
   *
   * @param workflow made with `workflow` or `activity`, or its name; the workers of the child's task queue must have it
   * @param input as for a start
   * @returns what the child returned
   * @throws {ChildFailedError} with the error of the child as `cause`; see {@link ChildRun.result}
   * @throws {CancelledError} when the run is being cancelled; what happens to the child is `parentClose`
   */
  child<Input, Output>(
    workflow: ChildWorkflow<Input, Output>,
    ...args: undefined extends Input ? [input?: Input, options?: ChildOptions] : [input: Input, options?: ChildOptions]
  ): Promise<Output>;
  child<Output = unknown>(workflow: string, input?: unknown, options?: ChildOptions): Promise<Output>;
  /** Starts a child without waiting for it: its handle has its ids, and awaits its result, sends signals and cancels it. */
  startChild<Input, Output>(
    workflow: ChildWorkflow<Input, Output>,
    ...args: undefined extends Input ? [input?: Input, options?: ChildOptions] : [input: Input, options?: ChildOptions]
  ): ChildRun<Output>;
  startChild<Output = unknown>(workflow: string, input?: unknown, options?: ChildOptions): ChildRun<Output>;
  /** Calls an activity, on any task queue: the same as {@link child}. */
  call<Input, Output>(
    activity: ChildWorkflow<Input, Output>,
    ...args: undefined extends Input ? [input?: Input, options?: ChildOptions] : [input: Input, options?: ChildOptions]
  ): Promise<Output>;
  call<Output = unknown>(activity: string, input?: unknown, options?: ChildOptions): Promise<Output>;
  /**
   * Calls `fn` for each item, for example with a step or a child.
   *
   * @param options how many calls may be under way at the same time
   * @returns the results in the order of the items
   * @throws what the first call that fails throws; no further one is begun, and those under way continue
   */
  map<Item, Result>(
    items: Iterable<Item>,
    fn: (item: Item, index: number) => Result | PromiseLike<Result>,
    options?: MapOptions,
  ): Promise<Awaited<Result>[]>;
  /**
   * Waits for an event without occupying a slot. Every wait that is open when an event is published receives it, in all runs of the
   * namespace. A step named like the event records it.
   *
   * @param event made with `event(name)`, or its name
   * @returns what was published; with `timeout`: null when nothing came in time
   * @throws {CancelledError} when the run is being cancelled
   * @throws {InvalidInputError} when what was published does not fit the event's schema
   */
  waitForEvent<Received>(
    event: EventDefinition<never, Received> | string,
    options: EventWaitOptions & { readonly timeout: Duration },
  ): Promise<Received | null>;
  waitForEvent<Received>(
    event: EventDefinition<never, Received> | string,
    options?: EventWaitOptions,
  ): Promise<Received>;
  /**
   * Publishes an event, exactly once; recorded as a step named like the event.
   *
   * @param options `key`: what it happened to, 1 to 255 bytes; default: none
   * @throws {InvalidInputError} when the payload does not fit the event's schema
   */
  publish<Published>(
    event: EventDefinition<Published, unknown> | string,
    payload?: Published,
    options?: { readonly key?: string },
  ): Promise<void>;
  /**
   * A promise that is resolved or rejected from outside: by a client, the command line, or a webhook that calls the server over HTTP.
   * It begins at once, and its timeout counts from here; a step of this name records it. Bodies that begin later wait until it is recorded,
   * so an id that they give away can be used.
   *
   * @param name 1 to 200 bytes without control characters; the n-th use of a name in a run gets the id `name#n`
   * @throws {TypeError} naming what is wrong
   */
  promise<Value = unknown>(name: string): DurablePromise<Value>;
  promise<Value = unknown>(name: string, options: WaitOptions): DurablePromise<Value | null>;
  /** Executes clean-up: steps and sleeps inside `work` run although the run is being cancelled. Returns what `work` returns. */
  uncancellable<T>(work: () => Promise<T>): Promise<T>;
  /** The database's time of the latest result; the same in every replay. */
  now(): Date;
  /** 0 ≤ x < 1; the same sequence in every replay. Not for secrets. */
  random(): number;
  /** A version 4 UUID; the same sequence in every replay. Not for secrets. */
  uuid(): string;
  /** Aborted when the run is cancelled or its lease is lost; inside a body: the step's signal. */
  readonly signal: AbortSignal;
  /** Only inside the body of a step: see {@link StepContext.idempotencyKey}. */
  readonly idempotencyKey: string;
  /** Only inside the body of a step: see {@link StepContext.heartbeat}. */
  heartbeat(detail?: unknown): void;
  /** Only inside the body of a step: see {@link StepContext.lastHeartbeat}. */
  lastHeartbeat<T = unknown>(): T | undefined;
  /** A logger that names the run; silent during a replay. */
  readonly log: Pick<Logger, 'trace' | 'debug' | 'info' | 'warn' | 'error'>;
}
