type Submit<Command, Outcome> = (command: Command) => Promise<Outcome>;

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
  readonly #lanes = new Map<string, Lane>();

  /** Runs with commands under way. */
  get size(): number {
    return this.#lanes.size;
  }

  submit<Command, Outcome>(runId: string, submit: Submit<Command, Outcome>, command: Command): Promise<Outcome> {
    let lane = this.#lanes.get(runId);
    if (lane === undefined) {
      lane = { kind: submit, underWay: 0, waiting: [] };
      this.#lanes.set(runId, lane);
    }
    if (lane.waiting.length === 0 && lane.kind === submit) return this.#run(runId, lane, submit, command);
    const { waiting } = lane;
    return new Promise<void>((go) => waiting.push({ kind: submit, go }))
      .then(() => submit(command))
      .finally(() => {
        this.#done(runId, lane);
      });
  }

  async #run<Command, Outcome>(
    runId: string,
    lane: Lane,
    submit: Submit<Command, Outcome>,
    command: Command,
  ): Promise<Outcome> {
    lane.underWay++;
    try {
      return await submit(command);
    } finally {
      this.#done(runId, lane);
    }
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
