import type { RunHolder } from '../../commands.js';
import { plainArray, textArray } from '../../database/literals.js';
import type { FenceOutcome, LeaseRef } from '../../model.js';

/** One row of a transition's answer: `ord` counts the commands from 1. */
export interface VerdictRow {
  readonly ord: number;
  readonly verdict: string;
}

/** $1, $2, $3 of every fenced statement. */
export function fenceParameters(commands: readonly LeaseRef[]): [string, string, string] {
  return [
    plainArray(commands, (command) => command.runId),
    textArray(commands, (command) => command.namespace),
    plainArray(commands, (command) => command.leaseToken),
  ];
}

/** The outcome of a fence that refused, or undefined. */
export function fenceOutcome(verdict: string): FenceOutcome | undefined {
  return verdict === 'run_not_found' || verdict === 'lease_lost' ? { kind: verdict } : undefined;
}

/** A verdict that the transition does not know is a bug in Perdure. */
export function unknownVerdict(statement: string, verdict: string): never {
  throw new Error(`Statement '${statement}' answered with the unknown verdict '${verdict}'.`);
}

/** Who held a run when a row was read. */
export function holderOf(row: { readonly leased_by: string | null; readonly lease_token: number }): RunHolder | null {
  return row.leased_by === null ? null : { workerId: row.leased_by, leaseToken: row.lease_token };
}

const MAX_ROUNDS = 10;

/**
 * Runs a transition in as many rounds as necessary: commands with the same key never share a round, so that a statement changes
 * each row once and later commands see the effect of earlier ones. A command that comes back as `raced` (a concurrent transaction
 * changed what its snapshot had shown) is judged again.
 *
 * @param keyOf what must be unique within one statement
 * @param runOnce the statement; one outcome or 'raced' per command, in order
 */
export async function inRounds<Command, Outcome>(
  commands: readonly Command[],
  keyOf: (command: Command) => string,
  runOnce: (commands: readonly Command[]) => Promise<readonly (Outcome | 'raced')[]>,
): Promise<Outcome[]> {
  const outcomes = new Array<Outcome>(commands.length);
  let open = commands.map((_, index) => index);
  let racedRounds = 0;
  while (open.length > 0) {
    const keys = new Set<string>();
    const now: number[] = [];
    const later: number[] = [];
    for (const index of open) {
      const key = keyOf(commands[index] as Command);
      if (keys.has(key)) later.push(index);
      else {
        keys.add(key);
        now.push(index);
      }
    }
    const answers = await runOnce(now.map((index) => commands[index] as Command));
    const raced: number[] = [];
    now.forEach((index, position) => {
      const answer = answers[position];
      if (answer === undefined) throw new Error('A transition left a command without an outcome.');
      if (answer === 'raced') raced.push(index);
      else outcomes[index] = answer;
    });
    if (raced.length > 0 && ++racedRounds > MAX_ROUNDS) {
      throw new Error(`A transition lost the same race ${MAX_ROUNDS} times; this points at a fault in its statement.`);
    }
    open = [...raced, ...later].sort((a, b) => a - b);
  }
  return outcomes;
}
