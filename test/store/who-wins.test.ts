import { type Database, openDatabase } from '@perdure/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Seeded } from '../support/seeded.js';
import { openTestStore, type TestStore } from '../support/store.js';
import { RIVALS, type Rival, statesOf } from './who-wins/rivals.js';
import { type RacedRun, racedRuns, type State } from './who-wins/runs.js';
import { normalized, rowsOf } from './who-wins/snapshots.js';

/** Races of each pair in each state. 200 in a full run. */
const RACES = Number(process.env.PERDURE_RACE_PAIRS ?? 5);
/** Two runs show the serial orders. */
const SERIAL = 2;
/** Times that it is looked whether both commands wait for the row that is held; a sweep never does. */
const LOOKS = 2;
const MADE_AT_ONCE = 250;
const HOUR_MS = 3_600_000;

/** What came of two commands: what each answered, and all rows of the run. */
interface Outcome {
  readonly answers: readonly unknown[];
  readonly rows: unknown;
}

const NAMES = Object.keys(RIVALS);
const PAIRS = NAMES.flatMap((one, n) =>
  NAMES.slice(n).flatMap((other) => statesOf(one, other).map((state) => [one, other, state] as const)),
);

/**
 * Two commands at once on one run, from two connections: what comes of them is what one of them after the other would have done. Both serial
 * orders are executed on equal runs, and everything is compared: the answers and all rows.
 */
describe('who wins', () => {
  let store: TestStore;
  let workerId: string;
  let left: Database;
  let right: Database;
  const random = new Seeded(37);
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register({ slots: MADE_AT_ONCE, leaseMs: HOUR_MS });
    left = openDatabase({ url: store.database.url, maxConnections: 1 });
    right = openDatabase({ url: store.database.url, maxConnections: 1 });
  });
  afterAll(async () => {
    await Promise.all([left.close(), right.close()]);
    await store.stop();
  });
  /** Runs that are ready, made many at a time. */
  const ready = new Map<State, RacedRun[]>();
  const take = async (count: number, state: State): Promise<readonly RacedRun[]> => {
    const runs = ready.get(state) ?? [];
    ready.set(state, runs);
    if (runs.length < count) runs.push(...(await racedRuns(store, workerId, Math.max(count, MADE_AT_ONCE), state)));
    return runs.splice(0, count);
  };
  const prepare = async (run: RacedRun, rivals: readonly Rival[]) => {
    for (const { makeDue } of rivals) await makeDue?.(store.database.sql, run);
  };
  /** Sweeps come again; what one passes over because it is locked is found by the next. */
  const sweepAgain = async (run: RacedRun, rivals: readonly Rival[]) => {
    for (const { makeDue, act } of rivals) if (makeDue !== undefined) await act(left, run);
  };
  const deadlocks = async () => {
    const [row] = await store.database.sql<{ n: number }[]>`
      select deadlocks::int as n from pg_stat_database where datname = current_database()`;
    return row?.n;
  };

  /** The answer of a sweep is about all that is due, and not about the run. */
  const answerOf = (rival: Rival, answer: unknown, run: RacedRun) =>
    rival.makeDue === undefined ? normalized(answer, run) : 'swept';

  /** Both at once; in half of the races while the row of the run is held, so that both wait for it. */
  const fire = async (run: RacedRun, [one, other]: readonly [Rival, Rival]) => {
    const calls = [() => one.act(left, run), () => other.act(right, run)] as const;
    const isSwapped = random.chance(0.5);
    const both = () =>
      isSwapped
        ? Promise.all([calls[1](), calls[0]()]).then(([b, a]) => [a, b] as const)
        : Promise.all([calls[0](), calls[1]()]);
    if (random.chance(0.5)) return both();
    return store.database.sql
      .begin(async (sql) => {
        await sql`select 1 from perdure.workflow_runs where run_id = ${run.runId} for update`;
        const answers = both();
        answers.catch(() => undefined);
        for (let look = 0; look < LOOKS; look++) {
          const [row] = await sql<{ n: number }[]>`select count(*)::int as n from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'`;
          if (row?.n === 2) break;
        }
        return { answers };
      })
      .then(({ answers }) => answers);
  };

  it.each(PAIRS)('%s and %s of a run that is %s: one of them was first', async (one, other, state: State) => {
    const pair = [RIVALS[one] as Rival, RIVALS[other] as Rival] as const;
    const runs = await take(RACES + SERIAL, state);
    const before = await deadlocks();
    const answers = new Map<string, readonly unknown[]>();
    for (const [n, run] of runs.entries()) {
      await prepare(run, pair);
      if (n === 0) {
        const first = await pair[0].act(left, run);
        answers.set(run.runId, [first, await pair[1].act(right, run)]);
      } else if (n === 1) {
        const first = await pair[1].act(right, run);
        answers.set(run.runId, [await pair[0].act(left, run), first]);
      } else answers.set(run.runId, await fire(run, pair));
      await sweepAgain(run, pair);
    }
    const rows = await rowsOf(store.database.sql, runs);
    // Those that are claimable again are not claimed with further runs.
    await store.database.sql`update perdure.workflow_runs set task_queue = 'over'
      where run_id in ${store.database.sql(runs.map(({ runId }) => runId))}
        or origin_run_id in ${store.database.sql(runs.map(({ runId }) => runId))}`;
    const outcomes = runs.map(
      (run): Outcome => ({
        answers: pair.map((rival, n) => answerOf(rival, answers.get(run.runId)?.[n], run)),
        rows: rows.get(run.runId),
      }),
    );
    const [forward, backward, ...raced] = outcomes;
    for (const outcome of raced) {
      const isSerial = [forward, backward].some((serial) => JSON.stringify(serial) === JSON.stringify(outcome));
      // Says what is different from the order that comes closest.
      if (!isSerial) expect(outcome).toEqual(closest(outcome, [forward as Outcome, backward as Outcome]));
    }
    expect(await deadlocks()).toBe(before);
  });
});

/** @returns the serial outcome with the same answers, if there is one */
function closest(outcome: Outcome, serial: readonly [Outcome, Outcome]): Outcome {
  const isEqual = ({ answers }: Outcome) => JSON.stringify(answers) === JSON.stringify(outcome.answers);
  return serial.find(isEqual) ?? serial[0];
}
