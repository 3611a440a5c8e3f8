import { type Database, DEFERRED, type Deferred, type StartRun, type StartRunOutcome } from '@perdure/store';
import type { Logger } from 'pino';
import type { Dispatcher } from '../dispatch/dispatcher.js';
import type { Wakeups } from '../dispatch/wakeups.js';
import type { Effect } from './after-commit.js';
import { Coalescer } from './coalescer.js';
import { type CommandKind, commandTable } from './command-table.js';
import { EventSpreader } from './event-spreader.js';
import { RunOrder } from './run-order.js';

/** Submits one command; resolves with its outcome once it is committed. */
export type Submit<Command, Outcome> = (command: Command) => Promise<Outcome>;

type Table = typeof commandTable;
type Submits = {
  readonly [Name in keyof Table]: Table[Name] extends CommandKind<infer Command, infer Outcome>
    ? Submit<Command, Exclude<Outcome, Deferred>>
    : never;
};

/** The commands of the hot paths; commands of all callers are written together. */
export interface Commands extends Submits {
  /**
   * Starts all of the runs or refuses them together.
   *
   * @throws {RpcError} OVERLOADED when there is no room for all of them; nothing was changed
   */
  startRuns(starts: readonly StartRun[]): Promise<StartRunOutcome>[];
  /** Notifies those who are concerned by something that was committed without a command. */
  apply(effect: Effect): void;
}

export interface CommandsOptions {
  readonly db: Database;
  readonly log: Logger;
  readonly wakeups: Wakeups;
  readonly dispatcher: Dispatcher;
  /** Aborted when the server stops. */
  readonly stopping: AbortSignal;
  /** Most commands of one kind that may wait. */
  readonly maxQueued: number;
  /** Most bytes of values of one kind that may wait. */
  readonly maxQueuedBytes: number;
}

export function createCommands(options: CommandsOptions): Commands {
  const { db, log, wakeups, maxQueued, maxQueuedBytes, stopping } = options;
  const onFault = (error: unknown) => log.error({ event: 'callback_failed', err: error });
  // Set below, before any command is carried out.
  let toRelatives: (effect: Extract<Effect, { kind: 'relatives' }>) => void = () => undefined;
  const apply = (effect: Effect) =>
    effect.kind === 'relatives' ? toRelatives(effect) : applyEffect(wakeups, spreader, effect, onFault);
  const spreader = new EventSpreader({ db, log, stopping, apply });

  const coalescerOf = <Command, Outcome>(kind: CommandKind<Command, Outcome>) =>
    new Coalescer<Command, Outcome>({
      name: kind.name,
      keyOf: kind.key,
      ...(kind.bytes === undefined ? {} : { bytesOf: kind.bytes }),
      maxQueued,
      maxQueuedBytes,
      onFault,
      run: async (commands) => {
        const outcomes = await kind.transition(db, commands, options);
        const { effects } = kind;
        if (effects !== undefined) {
          commands.forEach((command, index) => {
            for (const effect of effects(command, outcomes[index] as Outcome)) apply(effect);
          });
        }
        return outcomes;
      },
    });

  const order = new RunOrder();
  const submitOf = <Command, Outcome>(
    kind: CommandKind<Command, Outcome>,
    coalescer: Coalescer<Command, Outcome>,
  ): Submit<Command, Outcome> =>
    kind.ordered
      ? (command) => order.submit(kind.key(command), coalescer, command)
      : (command) => coalescer.submit(command);

  const starts = coalescerOf(commandTable.startRun);
  const { startRun, ...others } = commandTable;
  const submits = Object.fromEntries(
    Object.entries(others).map(([name, row]) => {
      const kind = row as CommandKind<unknown, unknown>;
      return [name, submitOf(kind, coalescerOf(kind))];
    }),
  ) as unknown as Omit<Submits, 'startRun'>;
  const { findEnd, findRun, findAnswer, tellParent, closeChildren } = submits;
  // What fails here, or is refused because too much waits, the sweep of a reaper does.
  const later = (error: unknown) => log.debug({ event: 'relatives_left', message: String(error) });
  toRelatives = ({ runId, hasParent, hasChildren }) => {
    if (hasParent) tellParent({ runId }).catch(later);
    if (hasChildren) closeChildren({ runId }).catch(later);
  };
  return {
    ...submits,
    findEnd: untilRead(findEnd),
    findRun: untilRead(findRun),
    findAnswer: untilRead(findAnswer),
    startRun: submitOf(startRun, starts),
    startRuns: (commands) => starts.submitAll(commands),
    apply,
  };
}

/** A batch of reads is bounded in bytes: reads that did not fit are in a later batch. */
function untilRead<Command, Outcome>(submit: Submit<Command, Outcome>): Submit<Command, Outcome> {
  return async (command) => {
    for (;;) {
      const outcome: Outcome | Deferred = await submit(command);
      if (outcome !== DEFERRED) return outcome;
    }
  };
}

/** Runs after the commit, so an error here changes no outcome: waiting callers find the change with their next fallback read. */
function applyEffect(
  wakeups: Wakeups,
  spreader: EventSpreader,
  effect: Exclude<Effect, { kind: 'relatives' }>,
  onFault: (error: unknown) => void,
): void {
  try {
    switch (effect.kind) {
      case 'runnable':
        wakeups.runnable(effect.queue, effect.runs ?? 1, effect.workflowType);
        break;
      case 'wakes':
        wakeups.wakesIn(effect.inMs);
        break;
      case 'expires':
        wakeups.expiresIn(effect.inMs);
        break;
      case 'left':
        wakeups.left(effect.runId);
        break;
      case 'kept':
        wakeups.kept(effect.runId, effect.keeper);
        break;
      case 'ended':
        wakeups.onEnded(effect.runId, effect.end);
        break;
      case 'answered':
        wakeups.onAnswered(effect, effect.answer);
        break;
      case 'notice':
        wakeups.notice(effect.notice);
        break;
      case 'unspread':
        spreader.spread();
        break;
    }
  } catch (error) {
    onFault(error);
  }
}
