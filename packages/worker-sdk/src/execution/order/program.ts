import { StepKind } from '@perdure/proto';
import { currentScope } from '../body/scope.js';
import { afterReplay, EMPTY_MEMO, type Memo, type RecordedStep } from './memo.js';

/** One use of `ctx.step` or `ctx.sleep`, with its place in the run. */
export interface StepRef {
  readonly stepId: string;
  readonly seq: number;
  /** What is recorded under the id; undefined also when a run-level retry has taken it back. */
  readonly recorded: RecordedStep | undefined;
  /** What a run-level retry has taken back under the id. */
  readonly cut: RecordedStep | undefined;
  readonly uncancellable: boolean;
  /** It undoes another step. */
  readonly isCompensation: boolean;
}

/** What a run's code requests, in its order, compared with what is recorded. */
export class Program {
  readonly #uses = new Map<string, number>();
  #memo: Memo = EMPTY_MEMO;
  #seq = 0;
  #hasEnded = false;

  /** How many steps and timers the code has requested. */
  get seq(): number {
    return this.#seq;
  }

  replay(memo: Memo): void {
    this.#memo = memo;
  }

  /** The author's function has returned or thrown. */
  end(): void {
    this.#hasEnded = true;
  }

  /** @throws {Error} when the author's function has ended */
  refuseAfterEnd(name: string): void {
    if (!this.#hasEnded || currentScope().isCompensation) return;
    throw new Error(
      `'${name}' was called after the workflow's function had ended. Await every step before it returns.`,
    );
  }

  /** All that is recorded has been delivered. */
  forgetReplayed(): void {
    this.#memo = afterReplay(this.#memo);
  }

  /**
   * Assigns id and place to the next use of a name: the n-th use gets the id `name#n`, the first one the name itself.
   *
   * @returns `mismatch`: how it differs from what is recorded, for the author
   */
  open(name: string, kind: StepKind): StepRef | { readonly mismatch: string } {
    const use = (this.#uses.get(name) ?? 0) + 1;
    this.#uses.set(name, use);
    const stepId = use === 1 ? name : `${name}#${use}`;
    const seq = ++this.#seq;
    const mismatch = mismatchOf(this.#memo, { stepId, seq }, kind);
    if (mismatch !== undefined) return { mismatch };
    const { entries, cut } = this.#memo;
    const { uncancellable = false, isCompensation = false } = currentScope();
    return { stepId, seq, recorded: entries.get(stepId), cut: cut.get(stepId), uncancellable, isCompensation };
  }
}

/**
 * Compares what the code requests with what is recorded: the same id must come at the same place as the same kind, and a
 * place that is taken must be requested under its id.
 *
 * @returns what does not fit, for the author; undefined when it does
 */
function mismatchOf(
  memo: Memo,
  { stepId, seq }: { readonly stepId: string; readonly seq: number },
  kind: StepKind,
): string | undefined {
  const recorded = memo.entries.get(stepId);
  const asks = `but the code now requests ${StepKind[kind]}`;
  if (recorded !== undefined) {
    if (recorded.kind === kind && recorded.seq === seq) return undefined;
    return `Step '${stepId}' was recorded as ${StepKind[recorded.kind]} at position ${recorded.seq}, ${asks} at position ${seq}`;
  }
  const other = memo.places.get(seq);
  return other === undefined
    ? undefined
    : `Position ${seq} was recorded as step '${other.stepId}' (${StepKind[other.kind]}), ${asks} '${stepId}' there`;
}
