import { ChurningMap } from '@perdure/collections';

/** Carries out one command and calls one of the two, once. */
type Enqueue<Command, Outcome> = (
  command: Command,
  onOutcome: (outcome: Outcome) => void,
  onError: (error: unknown) => void,
) => void;

interface Lane {
  /** Commands of this kind are under way; the coalescer keeps those of one kind in order by itself. */
  kind: unknown;
  underWay: number;
  readonly waiting: { readonly kind: unknown; readonly go: () => void }[];
}

/**
 * Keeps the order of a run's commands over all kinds: a command waits while earlier ones of another kind are under way.
 * Without this, a completion could be written by its coalescer before the beginning that was sent before it.
 */
export class RunOrder {
  readonly #lanes = new ChurningMap<string, Lane>();

  /** Runs with commands under way. */
  get size(): number {
    return this.#lanes.size;
  }

  /** @param kind what carries the command out; the same function for all commands of a kind */
  submit<Command, Outcome>(runId: string, kind: Enqueue<Command, Outcome>, command: Command): Promise<Outcome> {
    let lane = this.#lanes.get(runId);
    if (lane === undefined) {
      lane = { kind, underWay: 0, waiting: [] };
      this.#lanes.set(runId, lane);
    }
    const ownLane = lane;
    return new Promise((resolve, reject) => {
      const go = () =>
        kind(
          command,
          (outcome) => {
            resolve(outcome);
            this.#done(runId, ownLane);
          },
          (error) => {
            reject(error);
            this.#done(runId, ownLane);
          },
        );
      if (ownLane.waiting.length > 0 || ownLane.kind !== kind) ownLane.waiting.push({ kind, go });
      else {
        ownLane.underWay++;
        go();
      }
    });
  }

  #done(runId: string, lane: Lane): void {
    lane.underWay--;
    if (lane.underWay > 0) return;
    const next = lane.waiting[0];
    if (next === undefined) {
      this.#lanes.delete(runId);
      return;
    }
    lane.kind = next.kind;
    while (lane.waiting[0]?.kind === next.kind) {
      lane.underWay++;
      lane.waiting.shift()?.go();
    }
  }
}
