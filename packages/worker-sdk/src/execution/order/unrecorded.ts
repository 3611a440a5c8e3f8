import { AsyncResource } from 'node:async_hooks';
import { ExecutionEnded } from '../lease/leased-calls.js';
import type { RequestOf } from '../lease/leased-method.js';

/** A result that the code is given before it is recorded. */
export interface UnsentResult {
  readonly request: RequestOf<'completeStep'>;
  /** Its time does not count for the code's clock. */
  readonly isLazy: boolean;
  /** Sends it alone. */
  send(): void;
  /** It was recorded with the end of the run. */
  onRecordedWithEnd(): void;
  /** It was refused together with the end of the run. */
  onRefusedWithEnd(error: unknown): void;
}

interface Given {
  readonly result: UnsentResult;
  readonly number: number;
  isRecorded: boolean;
}

interface Held {
  /** It waits for the results up to this one. */
  readonly number: number;
  readonly go: () => void;
  /** It never leaves. */
  readonly drop: () => void;
}

/** Values up to this size may be kept, in bytes. */
const MAX_BYTES = 64 * 1024;
const MAX_KEPT = 32;

/**
 * Results that the code is given before they are recorded. Until they are, nothing of what the code does next leaves this process: no
 * call about the run is sent, no body begins (except those without effects) and no line is logged. So when such a result is
 * refused, or is lost with its worker, nobody has seen what came of it.
 *
 * A result is kept until something must leave, until the code stands still without the prospect of another result, or until the
 * code has returned: then the result and the end of the run are one call.
 */
export class Unrecorded {
  readonly #onFault: (error: unknown) => void;
  /** In the order in which the code is given them. */
  #given: Given[] = [];
  #kept: UnsentResult[] = [];
  #held: Held[] = [];
  /** Lines of the log among {@link #held}. */
  #lines = 0;
  #number = 0;
  #isStopped = false;

  /** @param onFault called with what a held call throws */
  constructor(onFault: (error: unknown) => void) {
    this.#onFault = onFault;
  }

  /** Everything that the code has been given is recorded. */
  get isClear(): boolean {
    return this.#given.length === 0;
  }

  /** The time of the code's latest result is not known yet. */
  get hidesTime(): boolean {
    return this.#given.some(({ result }) => !result.isLazy);
  }

  /** How many results were not sent yet. */
  get keptCount(): number {
    return this.#kept.length;
  }

  /** @returns false when it is too large, so it must be recorded first */
  static mayKeep(request: UnsentResult['request']): boolean {
    return (request.output?.data?.byteLength ?? 0) <= MAX_BYTES;
  }

  keep(result: UnsentResult): void {
    this.#given.push({ result, number: ++this.#number, isRecorded: false });
    this.#kept.push(result);
    if (this.#kept.length >= MAX_KEPT) this.sendKept();
  }

  sendKept(): void {
    const kept = this.#kept;
    if (kept.length === 0) return;
    this.#kept = [];
    for (const result of kept) result.send();
  }

  /** The code has returned. @returns the one result that may be recorded with the end; undefined when there is none, or more than that */
  takeLast(): UnsentResult | undefined {
    const isAlone = this.#given.length === 1 && this.#kept.length === 1 && this.#held.length === this.#lines;
    return isAlone ? this.#kept.pop() : undefined;
  }

  /** What has waited for this result alone leaves now, in its order. */
  recorded(result: UnsentResult): void {
    const given = this.#given.find((one) => one.result === result);
    if (given === undefined) return;
    given.isRecorded = true;
    while (this.#given[0]?.isRecorded) this.#given.shift();
    const before = this.#given[0]?.number ?? Number.POSITIVE_INFINITY;
    while (this.#held[0] !== undefined && this.#held[0].number < before) {
      const { go } = this.#held.shift() as Held;
      try {
        go();
      } catch (error) {
        this.#onFault(error);
      }
    }
  }

  /** Writes a line of the log when all is recorded: at once, or later, or never when the execution ends before. */
  line(write: () => void): void {
    if (this.isClear) {
      write();
      return;
    }
    if (this.#isStopped) return;
    this.#lines++;
    this.#hold(() => {
      this.#lines--;
      write();
    });
  }

  /** Calls back in the caller's async context, when all is recorded: at once, or later, or never when the execution ends before. */
  whenClear(callback: () => void): void {
    if (this.isClear) callback();
    else if (!this.#isStopped) {
      const context = new AsyncResource('PERDURE_HELD');
      this.#hold(() => context.runInAsyncScope(callback));
      this.sendKept();
    }
  }

  /** Sends what is kept. @returns once all is recorded @throws {ExecutionEnded} when that will never be */
  async cleared(): Promise<void> {
    if (this.isClear) return;
    if (this.#isStopped) throw new ExecutionEnded();
    await new Promise<void>((resolve, reject) => {
      this.#hold(resolve, () => reject(new ExecutionEnded()));
      this.sendKept();
    });
  }

  /** What is held never leaves. */
  stop(): void {
    this.#isStopped = true;
    const held = this.#held;
    this.#held = [];
    for (const { drop } of held) drop();
  }

  #hold(go: () => void, drop: () => void = () => undefined): void {
    this.#held.push({ number: this.#number, go, drop });
  }
}
