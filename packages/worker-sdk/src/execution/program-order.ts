import { type MemoEntry, StepKind } from '@perdure/proto';

/** One use of `ctx.step` or `ctx.sleep`, with its place in the run. */
export interface StepRef {
  readonly stepId: string;
  readonly seq: number;
  /** What is recorded under the id. */
  readonly recorded: MemoEntry | undefined;
  readonly uncancellable: boolean;
}

/** Gives the uses of names their ids and places, in the order in which the code asks for them. */
export class ProgramOrder {
  readonly #uses = new Map<string, number>();
  #seq = 0;

  /** The n-th use of a name gets the id `name#n`, the first one the name itself. */
  next(name: string): { readonly stepId: string; readonly seq: number } {
    const use = (this.#uses.get(name) ?? 0) + 1;
    this.#uses.set(name, use);
    return { stepId: use === 1 ? name : `${name}#${use}`, seq: ++this.#seq };
  }
}

/**
 * Holds what the code asks for against what is recorded under the id.
 *
 * @param anyPlace a cancel reaches parallel branches at a moment that is not recorded, so clean-up may count differently
 * @returns what does not fit, for the author; undefined when it does
 */
export function mismatchOf(
  recorded: MemoEntry,
  { kind, seq }: { readonly kind: StepKind; readonly seq: number },
  anyPlace: boolean,
): string | undefined {
  if (recorded.kind === kind && (recorded.seq === seq || anyPlace)) return undefined;
  return (
    `Step '${recorded.stepId}' was recorded as ${StepKind[recorded.kind]} at position ${recorded.seq}, but the code now asks for ` +
    `${StepKind[kind]} at position ${seq}`
  );
}
