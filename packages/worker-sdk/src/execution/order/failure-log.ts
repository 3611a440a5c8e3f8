import type { MessageInitShape } from '@bufbuild/protobuf';
import type { MemoCutSchema } from '@perdure/proto';

/** A place in the order in which a run's code is given results. */
export interface EventPlace {
  readonly leaseToken: number;
  readonly eventSeq: number;
}

export interface StepPlace extends EventPlace {
  readonly stepId: string;
}

interface DeliveredFailure {
  readonly from: StepPlace;
  /** How many steps the code had requested before it saw the failure. */
  readonly seq: number;
}

const MAX_DEPTH = 16;

/** The final failures that a run's code has seen, in order: and which of them the next attempt of the run goes back to. */
export class FailureLog {
  readonly #failures: DeliveredFailure[] = [];
  #cancel: { readonly from: EventPlace; readonly seq: number } | undefined;
  /** Made on demand: in most runs nothing fails, and the collector looks at every WeakMap. */
  #indexOf: WeakMap<Error, number> | undefined;

  /** @returns the error; each delivery has an error object of its own */
  delivered(error: Error, from: StepPlace, seq: number): Error {
    this.#indexOf ??= new WeakMap();
    this.#indexOf.set(error, this.#failures.push({ from, seq }) - 1);
    return error;
  }

  /**
   * The place to go back to: the earliest step failure among the causes of the error; when it names none (wrapped without
   * `cause`), the latest that the code has seen. From there back over failures between which the code requested nothing:
   * parallel steps that failed in the same outage are all executed again.
   *
   * @returns undefined when no step has failed
   */
  cutFor(error: unknown): MessageInitShape<typeof MemoCutSchema> | undefined {
    const blamed = this.#blamed(error, 0);
    let index = blamed === Number.POSITIVE_INFINITY ? this.#failures.length - 1 : blamed;
    while (index > 0 && this.#failures[index - 1]?.seq === this.#failures[index]?.seq) index--;
    const failure = this.#failures[index];
    if (failure === undefined) return undefined;
    const { leaseToken, eventSeq } = failure.from;
    return { from: { leaseToken, eventSeq }, seq: failure.seq };
  }

  /** The code has learned of the cancel request. */
  sawCancel(from: EventPlace, seq: number): void {
    this.#cancel = { from, seq };
  }

  /**
   * The place that a retry of the ended run goes back to: as {@link cutFor}, and before the code learned of a cancel request, which the
   * retry takes back.
   *
   * @param error what the code threw
   */
  cutAtEnd(error: unknown): MessageInitShape<typeof MemoCutSchema> | undefined {
    const cancel = this.#cancel;
    if (cancel === undefined) return this.cutFor(error);
    const index = this.#blamed(error, 0);
    const blamed = this.#failures[index];
    if (blamed !== undefined && isBefore(blamed.from, cancel.from)) return this.cutFor(error);
    const { leaseToken, eventSeq } = cancel.from;
    return { from: { leaseToken, eventSeq }, seq: cancel.seq };
  }

  /** The step that the error came from, directly or as a cause; the earliest when there are several. */
  stepOf(error: unknown): string | undefined {
    return this.#failures[this.#blamed(error, 0)]?.from.stepId;
  }

  #blamed(error: unknown, depth: number): number {
    if (!(error instanceof Error) || depth > MAX_DEPTH) return Number.POSITIVE_INFINITY;
    let earliest = this.#indexOf?.get(error) ?? Number.POSITIVE_INFINITY;
    earliest = Math.min(earliest, this.#blamed(error.cause, depth + 1));
    if (error instanceof AggregateError) {
      for (const inner of error.errors) earliest = Math.min(earliest, this.#blamed(inner, depth + 1));
    }
    return earliest;
  }
}

/** In the order of results. */
export function isBefore(a: EventPlace, b: EventPlace): boolean {
  return a.leaseToken < b.leaseToken || (a.leaseToken === b.leaseToken && a.eventSeq < b.eventSeq);
}
