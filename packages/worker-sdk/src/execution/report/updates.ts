import { create } from '@bufbuild/protobuf';
import { type AnswerUpdateRequest, type ReceivedUpdate, StepKind, UpdateResultSchema } from '@perdure/proto';
import { encodeValue } from '../../codec/payload.js';
import type { UpdateHandler } from '../../context.js';
import { failureOf } from '../../errors/failure.js';
import { validBy } from '../../schema.js';
import type { Update } from '../../update.js';
import { runInScope, type Scope } from '../body/scope.js';
import type { StepRef } from '../order/program.js';
import { callAwaited } from '../step/awaited-call.js';
import type { StepHost } from '../step/step-host.js';
import type { RunState } from './run-state.js';

/** The steps that receive updates have this name. */
const STEP_NAME = 'update';

/** What receiving and answering updates needs of an execution. */
export interface UpdatesHost extends StepHost {
  readonly state: RunState;
  open(name: string, kind: StepKind): StepRef | undefined;
}

interface Handler {
  readonly update: Update;
  readonly handle: UpdateHandler<unknown, unknown>;
  readonly validate: ((input: unknown) => void) | undefined;
  /** Of the code that registered it. */
  readonly scope: Scope;
}

interface Received {
  readonly stepId: string;
  readonly update: ReceivedUpdate;
  readonly input: unknown;
}

type Answer = AnswerUpdateRequest['answer'];

/**
 * The updates of a run. From the first handler on, one step after the other waits for the next update of any name, so they are received in
 * the order of sending; the next step begins in the turn in which an update is delivered, before its handler. An update whose name has no
 * handler yet waits in memory for one.
 *
 * A replay delivers the same updates at the same places and calls the handlers again, because they change what the code has in
 * memory; an update that is answered keeps its answer, and one that was refused is not handled again.
 */
export class Updates {
  readonly #host: UpdatesHost;
  readonly #handlers = new Map<string, Handler>();
  readonly #kept = new Map<string, Received[]>();
  #isReceiving = false;
  #isClosed = false;
  /** Handlers at work. */
  #underWay = 0;
  #onSettled: (() => void) | undefined;

  constructor(host: UpdatesHost) {
    this.#host = host;
  }

  /** @throws {TypeError} when the update has a handler already */
  handle(handler: Handler): void {
    const { name } = handler.update;
    if (this.#handlers.has(name)) throw new TypeError(`Update '${name}' has a handler already.`);
    this.#handlers.set(name, handler);
    if (!this.#isReceiving) {
      this.#isReceiving = true;
      this.#receive();
    }
    const kept = this.#kept.get(name) ?? [];
    this.#kept.delete(name);
    for (const received of kept) this.#begin(handler, received);
  }

  /**
   * The workflow's function has ended, which is a place in the order of results: what is delivered later is not handled.
   *
   * @returns once every handler has ended, and its update is answered
   */
  async settled(): Promise<void> {
    this.#isClosed = true;
    if (this.#underWay === 0) return;
    await new Promise<void>((resolve) => {
      this.#onSettled = resolve;
    });
  }

  #receive(): void {
    const step = runInScope({}, () => this.#host.open(STEP_NAME, StepKind.UPDATE));
    if (step === undefined) return;
    const settle = {
      resolve: (input: unknown, update?: ReceivedUpdate) => {
        if (update === undefined || this.#isClosed) return;
        this.#receive();
        this.#onReceived({ stepId: step.stepId, update, input });
      },
      // The run is being cancelled, and takes no further update.
      reject: () => undefined,
    };
    const awaits = { case: 'update' as const, value: true };
    const call = { step, kind: StepKind.UPDATE, awaits, timeoutMs: undefined, settle };
    void this.#host.faults.guard(() => callAwaited(this.#host, call));
  }

  #onReceived(received: Received): void {
    const { name, refused } = received.update;
    if (refused) return;
    const handler = this.#handlers.get(name);
    if (handler !== undefined) {
      this.#begin(handler, received);
      return;
    }
    const kept = this.#kept.get(name);
    if (kept === undefined) this.#kept.set(name, [received]);
    else kept.push(received);
  }

  #begin(handler: Handler, received: Received): void {
    this.#underWay++;
    void this.#host.faults.guard(async () => {
      const answer = await runInScope(handler.scope, () => this.#carryOut(handler, received));
      if (!received.update.answered) await this.#answer(received.stepId, answer);
      this.#over();
    });
  }

  async #carryOut(
    { update, handle, validate }: Handler,
    { update: { requestId, sender }, input }: Received,
  ): Promise<Answer> {
    const { codec, limit } = this.#host;
    const { name, options } = update;
    let valid: unknown;
    try {
      valid = await validBy(options.input, input, `The input of update '${name}'`);
      options.validate?.(valid);
      validate?.(valid);
    } catch (error) {
      return { case: 'refused', value: failureOf(codec, error) };
    }
    try {
      const what = `The result of update '${name}'`;
      const output = encodeValue(codec, await handle(valid, { requestId, sender }), what);
      limit.check(output, what);
      return { case: 'completed', value: create(UpdateResultSchema, output === undefined ? {} : { output }) };
    } catch (error) {
      return { case: 'failed', value: failureOf(codec, error) };
    }
  }

  async #answer(stepId: string, answer: Answer): Promise<void> {
    const { work, calls, state } = this.#host;
    await work.during(async () => {
      // Whoever gets the answer may read the state that the handler has set.
      await state.sent();
      await calls.call('answerUpdate', { stepId, answer });
    });
  }

  #over(): void {
    this.#underWay--;
    if (this.#underWay === 0) this.#onSettled?.();
  }
}
