import { ChurningMap } from '@perdure/collections';
import type { RpcError } from '../call/rpc-error.js';
import type { Admitted } from './coalescer.js';

/** Carries out commands of one kind; commands of one run in the order in which they were queued. */
export interface Kind<Command, Outcome> {
  readonly refusal: RpcError;
  admit(
    command: Command,
    onOutcome: (outcome: Outcome) => void,
    onError: (error: unknown) => void,
  ): Admitted<Command, Outcome> | undefined;
  enqueue(admitted: Admitted<Command, Outcome>): void;
}

interface Waiting {
  readonly kind: unknown;
  readonly enqueue: () => void;
}

/** The commands of one run that have no outcome yet. */
interface Lane {
  /** The kind of the commands in flight. */
  kind: unknown;
  underWay: number;
  /** Later commands, from `next` on. */
  waiting: Waiting[];
  next: number;
  advancing: boolean;
}

/**
 * Keeps the order of a run's commands over all kinds: a command waits while earlier ones of another kind are in flight.
 * Without this, a completion could be written by its coalescer before the beginning that was sent before it.
 *
 * A command that waits here already has its place in its kind's queue: it counts towards that queue's limits, and is not
 * refused later.
 */
export class RunOrder {
  readonly #lanes = new ChurningMap<string, Lane>();

  /** Runs with commands that have no outcome yet. */
  get size(): number {
    return this.#lanes.size;
  }

  /**
   * @returns the command's outcome, once committed
   * @throws {RpcError} OVERLOADED when too many commands of the kind are queued; nothing was changed
   */
  submit<Command, Outcome>(runId: string, kind: Kind<Command, Outcome>, command: Command): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      const admitted = kind.admit(
        command,
        (outcome) => {
          resolve(outcome);
          this.#settled(runId);
        },
        (error) => {
          reject(error);
          this.#settled(runId);
        },
      );
      if (admitted === undefined) {
        reject(kind.refusal);
        return;
      }
      const lane = this.#laneOf(runId, kind);
      if (lane.kind !== kind || lane.next < lane.waiting.length || lane.advancing) {
        lane.waiting.push({ kind, enqueue: () => kind.enqueue(admitted) });
      } else {
        lane.underWay++;
        kind.enqueue(admitted);
      }
    });
  }

  #laneOf(runId: string, kind: unknown): Lane {
    let lane = this.#lanes.get(runId);
    if (lane === undefined) {
      lane = { kind, underWay: 0, waiting: [], next: 0, advancing: false };
      this.#lanes.set(runId, lane);
    }
    return lane;
  }

  #settled(runId: string): void {
    const lane = this.#lanes.get(runId);
    if (lane === undefined) return;
    lane.underWay--;
    // A loop instead of recursion: commands that get their outcome while they are queued come back here.
    if (lane.advancing) return;
    lane.advancing = true;
    while (lane.underWay === 0 && lane.next < lane.waiting.length) this.#advance(lane);
    lane.advancing = false;
    if (lane.underWay === 0) this.#lanes.delete(runId);
  }

  /** Queues the next command and those of its kind directly after it. */
  #advance(lane: Lane): void {
    lane.kind = lane.waiting[lane.next]?.kind;
    while (lane.waiting[lane.next]?.kind === lane.kind && lane.next < lane.waiting.length) {
      const { enqueue } = lane.waiting[lane.next++] as Waiting;
      lane.underWay++;
      enqueue();
    }
    if (lane.next === lane.waiting.length) {
      lane.waiting = [];
      lane.next = 0;
    }
  }
}
