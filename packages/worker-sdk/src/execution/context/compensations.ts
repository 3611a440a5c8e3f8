import { StepKind } from '@perdure/proto';
import type { StepContext } from '../../context.js';
import type { FailedCompensation } from '../../errors/compensation-report.js';
import { compensationError } from '../../errors/errors.js';
import { refuseUnknownKeys } from '../../options.js';
import type { CompensationOptions, Saga, SagaOptions } from '../../saga.js';
import { checkId, shown } from '../../text.js';
import { currentScope, runInScope } from '../body/scope.js';
import { callStep } from '../step/step-call.js';
import type { Settle } from '../step/step-host.js';
import { type ResolvedStepOptions, resolveStepOptions } from '../step/step-options.js';
import { refuseInsideBody } from './checks.js';
import type { ContextHost } from './context-host.js';

const PREFIX = 'compensate:';
/** A step's name has 200. */
const MAX_NAME_BYTES = 200 - PREFIX.length;
const DEFAULT_RETRY = { maxAttempts: 10 };
/** How long code that was given a result may take to register what undoes it, in steps of the microtask queue. */
const SETTLING_MICROTASKS = 64;

interface Registration {
  /** Rises in the order of registration, over all sagas of a run. */
  readonly number: number;
  readonly stepName: string;
  readonly undo: (step: StepContext) => unknown;
  readonly options: ResolvedStepOptions;
  readonly isParallel: boolean;
}

type Undone = { readonly failed?: FailedCompensation; readonly registration: Registration };

/**
 * What undoes the steps of one run. A compensation is a step that no cancel ends. Everything here follows from the order of results alone,
 * so a replay begins the same compensations at the same places.
 */
export class Compensations {
  readonly #host: ContextHost;
  readonly root: SagaScope;
  readonly #open = new Set<SagaScope>();
  readonly #compensated: string[] = [];
  #number = 0;
  #lastSeq = 0;
  #onRegistered: (() => void) | undefined;

  constructor(host: ContextHost) {
    this.#host = host;
    this.root = new SagaScope(this, undefined, false);
  }

  /** Ids of the steps that have undone something. */
  get compensated(): readonly string[] {
    return this.#compensated;
  }

  /** Place in program order of the latest compensation; 0: there was none. */
  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** Something is registered, or a saga has not ended, whose steps under way may lead to a registration. */
  get hasWork(): boolean {
    return this.root.size > 0 || this.#open.size > 0;
  }

  /** Compensates everything, for a run whose code has ended. @returns what could not be */
  async undoAll(quiet: () => Promise<void>): Promise<FailedCompensation[]> {
    for (const saga of this.#open) saga.handOver();
    const failed: FailedCompensation[] = [];
    do {
      for (const undone of await this.root.undo()) if (undone.failed !== undefined) failed.push(undone.failed);
    } while (await this.#comesMore(quiet));
    return failed;
  }

  /** Bodies that were under way when the code ended may lead to further registrations. */
  async #comesMore(quiet: () => Promise<void>): Promise<boolean> {
    const registered = new Promise<void>((resolve) => {
      this.#onRegistered = resolve;
    });
    if (this.root.size === 0) await Promise.race([registered, quiet()]);
    return this.root.size > 0;
  }

  nextNumber(): number {
    return ++this.#number;
  }

  registered(): void {
    this.#onRegistered?.();
  }

  opened(saga: SagaScope): void {
    this.#open.add(saga);
  }

  closed(saga: SagaScope): void {
    this.#open.delete(saga);
  }

  /** Never rejects. */
  execute(registration: Registration): Promise<Undone> {
    const { stepName, undo: body, options } = registration;
    return new Promise((resolve) => {
      runInScope({ uncancellable: true, isCompensation: true }, () => {
        const step = this.#host.open(stepName, StepKind.FUNCTION);
        if (step === undefined) return;
        const { stepId, seq } = step;
        this.#lastSeq = Math.max(this.#lastSeq, seq);
        const settle: Settle = {
          resolve: () => {
            this.#compensated.push(stepId);
            resolve({ registration });
          },
          reject: (error) => resolve({ registration, failed: { stepId, error: error as Error } }),
        };
        callStep(this.#host, { step, body, options, settle });
      });
    });
  }
}

/** The registrations of a run, or of one `saga` in it. Its methods may be destructured. */
export class SagaScope implements Saga {
  readonly #run: Compensations;
  readonly #parent: SagaScope | undefined;
  readonly #isParallel: boolean;
  #registered: Registration[] = [];
  #undoing: Promise<Undone[]> | undefined;
  /** What is registered goes to the parent. */
  #isOver = false;
  #hasFailed = false;
  /** Steps and children of its work that have not ended. */
  #underWay = 0;
  #onSettled: (() => void) | undefined;

  constructor(run: Compensations, parent: SagaScope | undefined, isParallel: boolean) {
    this.#run = run;
    this.#parent = parent;
    this.#isParallel = isParallel;
  }

  get size(): number {
    return this.#registered.length;
  }

  onCompensate = (name: string, undo: (step: StepContext) => unknown, options: CompensationOptions = {}): void => {
    checkId("A compensation's name", name, MAX_NAME_BYTES);
    if (/#\d+$/.test(name)) {
      throw new TypeError(
        `A compensation's name must not end with # and a number, which mark repeated names; got '${name}'.`,
      );
    }
    if (typeof undo !== 'function') throw new TypeError(`Compensation '${name}' needs a function; got ${typeof undo}.`);
    const what = `Compensation '${name}'`;
    refuseUnknownKeys(what, options, ['retry', 'timeout', 'heartbeatTimeout', 'parallel']);
    const { parallel = this.#isParallel, ...rest } = options;
    checkBoolean(what, parallel);
    refuseInsideBody('onCompensate', name);
    this.#add({
      number: this.#run.nextNumber(),
      stepName: `${PREFIX}${name}`,
      undo,
      options: resolveStepOptions(name, { ...rest, retry: rest.retry ?? DEFAULT_RETRY }),
      isParallel: parallel,
    });
  };

  compensate = async (): Promise<void> => {
    refuseInsideBody('compensate', '');
    const undone = await this.undo();
    const failed = this.#keepFailed(undone);
    if (failed.length > 0) throw compensationError(undone.length, failed);
  };

  saga = async <T>(work: (saga: Saga) => PromiseLike<T> | T, options: SagaOptions = {}): Promise<T> => {
    if (typeof work !== 'function') throw new TypeError(`A saga needs a function; got ${typeof work}.`);
    refuseUnknownKeys('A saga', options, ['parallel']);
    const { parallel = this.#isParallel } = options;
    checkBoolean('A saga', parallel);
    refuseInsideBody('saga', '');
    return new SagaScope(this.#run, this, parallel).#carryOut(work);
  };

  /** A step or child begins in its work, unless the work has failed. @returns to be called when it has ended */
  begins(name: string): () => void {
    if (this.#hasFailed)
      throw new Error(
        `'${name}' was called after its saga had failed. Its compensations run; nothing else begins in it.`,
      );
    const end = this.#parent?.begins(name);
    this.#underWay++;
    return () => {
      end?.();
      this.#underWay--;
      if (this.#underWay === 0) this.#onSettled?.();
    };
  }

  /** Compensates what is registered, also what is registered meanwhile, the latest first. */
  undo(): Promise<Undone[]> {
    this.#undoing ??= this.#undoAll().finally(() => {
      this.#undoing = undefined;
    });
    return this.#undoing;
  }

  /** What is registered, now and later, belongs to the parent. */
  handOver(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#run.closed(this);
    for (const registration of this.#registered.splice(0)) this.#add(registration);
  }

  async #carryOut<T>(work: (saga: Saga) => PromiseLike<T> | T): Promise<T> {
    this.#run.opened(this);
    try {
      return await runInScope({ ...currentScope(), saga: this }, async () => work(this));
    } catch (error) {
      this.#hasFailed = true;
      await this.#settled();
      const undone = await this.undo();
      const failed = this.#keepFailed(undone);
      if (failed.length > 0) throw compensationError(undone.length, failed, error);
      throw error;
    } finally {
      this.handOver();
    }
  }

  /** What could not be compensated is tried again when the run fails. @returns the failures */
  #keepFailed(undone: readonly Undone[]): FailedCompensation[] {
    const failed: FailedCompensation[] = [];
    for (const one of undone) {
      if (one.failed === undefined) continue;
      failed.push(one.failed);
      this.#add(one.registration);
    }
    return failed;
  }

  /** The steps and children of its work have ended, and the code has had the time to register what undoes them. */
  async #settled(): Promise<void> {
    if (this.#underWay > 0) {
      await new Promise<void>((resolve) => {
        this.#onSettled = resolve;
      });
    }
    // Not a turn of the event loop: in a replay, another result might come in between.
    for (let n = 0; n < SETTLING_MICROTASKS; n++) await undefined;
  }

  #add(registration: Registration): void {
    if (this.#isOver && this.#parent !== undefined) {
      this.#parent.#add(registration);
      return;
    }
    const registered = this.#registered;
    registered.push(registration);
    // What comes from a saga that has ended was registered earlier than it comes.
    if ((registered.at(-2)?.number ?? 0) > registration.number) registered.sort((a, b) => a.number - b.number);
    this.#run.registered();
  }

  async #undoAll(): Promise<Undone[]> {
    const undone: Undone[] = [];
    for (let group = this.#takeGroup(); group.length > 0; group = this.#takeGroup())
      undone.push(...(await Promise.all(group.map((registration) => this.#run.execute(registration)))));
    return undone;
  }

  /** The latest registration, with those before it when all of them are parallel. */
  #takeGroup(): Registration[] {
    const registered = this.#registered;
    let start = registered.length - 1;
    if (registered[start]?.isParallel) while (registered[start - 1]?.isParallel) start--;
    return registered.splice(Math.max(start, 0)).reverse();
  }
}

function checkBoolean(what: string, parallel: unknown): void {
  if (typeof parallel !== 'boolean')
    throw new TypeError(`${what}: parallel must be true or false; got ${shown(parallel)}.`);
}
