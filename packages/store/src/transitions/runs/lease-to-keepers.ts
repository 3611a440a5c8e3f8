/**
 * Leases runs to the workers that keep them in memory, within the statement that brings something to the runs: one commit from the sender
 * to the worker (decision 0025). The SQL is the function `perdure.lease_to_keepers`.
 *
 * A run is leased only when the statement has made it claimable, and the worker has suspended it and gets runs. Otherwise it is
 * claimable like any other.
 */
import type { ClaimedRun, ClaimSlot } from '../../commands.js';
import type { Database, Parameter } from '../../database/database.js';
import { plainArray } from '../../database/literals.js';
import { defineStatement, type Statement } from '../../database/statement.js';
import type { UpdateAnswerKind } from '../../model.js';
import {
  arrivalOf,
  type ClaimedRow,
  CODE_IN_MEMORY,
  claimedRun,
  MAX_ARRIVAL_BYTES,
  MAX_ARRIVALS,
} from './claimed-run.js';

/** Free slots of workers that keep suspended runs in memory. */
export interface KeeperSlots {
  /** @returns undefined when there is a slot for none of the runs */
  reserve(runIds: readonly string[]): KeeperReservation | undefined;
}

export interface KeeperReservation {
  /** For each run the slot of its keeper, or null; at most one for equal ids. */
  readonly slots: readonly (ClaimSlot | null)[];
  /**
   * Gives the slots back; called once.
   *
   * @param claims for each run its claim, if it was leased to the slot, or null
   */
  settle(claims: readonly (ClaimedRun | null)[]): void;
}

/** A statement that brings something to runs, without and with leases. */
export interface WakingStatements {
  readonly plain: Statement;
  readonly leasing: Statement;
}

const COLUMNS = [
  'ord',
  'now',
  'lease_ms',
  'run_id',
  'namespace',
  'workflow_id',
  'workflow_type',
  'build',
  'lease_token',
  'attempt',
  'retries',
  'lost_leases',
  'cancel_requested_at',
  'cancel_lease_token',
  'cancel_event_seq',
  'compensation',
  'created_at',
  'started_at',
  'run_deadline_at',
  'execution_deadline_at',
  'input',
  'input_encoding',
  'nth',
  'arrived',
  'step_id',
  'seq',
  'kind',
  'attempt_number',
  'status',
  'output',
  'output_encoding',
  'failure',
  'finished_at',
  'fires_at',
  'update_name',
  'update_request_id',
  'update_sender',
  'update_answer',
] as const;

type LeasedRow = ClaimedRow & {
  readonly namespace: string;
  /** For a step that has received an update. */
  readonly update_name: string | null;
  readonly update_request_id: string;
  readonly update_sender: string;
  readonly update_answer: UpdateAnswerKind | null;
};
type Prefixed = { readonly [Column in keyof LeasedRow as `leased_${Column}`]: LeasedRow[Column] };

interface Waking {
  /** What brings something to runs; its answer is `t`. */
  readonly told: string;
  /** Further parts of the statement, which may read `told`. */
  readonly also?: string;
  /** Number of its parameters. Two follow: the runs, and the keeper of each, or null. */
  readonly parameters: number;
  /** Which row `l` of a leased run stands beside which `t`. */
  readonly on: string;
}

export function wakingStatements(name: string, { told, also, parameters, on }: Waking): WakingStatements {
  const [runs, keepers] = [`$${parameters + 1}::uuid[]`, `$${parameters + 2}::uuid[]`];
  const parts = `told as materialized (${told})${also === undefined ? '' : `, ${also}`}`;
  return {
    plain: defineStatement(name, also === undefined ? told : `with ${parts} select * from told`),
    leasing: defineStatement(
      `${name}_leasing`,
      `with ${parts},
      -- Reads all of it first, and passes that on to the function, so that the runs are locked and claimable when they are leased.
      leased as materialized (
        select l.* from (select count(*) as rows from told) t
        cross join lateral perdure.lease_to_keepers(case when t.rows > 0 then ${runs} end, ${keepers}, ${MAX_ARRIVALS}, ${MAX_ARRIVAL_BYTES}) l
      )
      select t.*, ${COLUMNS.map((column) => `l.${column} as leased_${column}`).join(', ')}
      from (select *, row_number() over () as place from told) t
      -- Full: a run that something else has woken before is leased too, and has no row in told.
      full join leased l on ${on}
      order by t.place, l.nth`,
    ),
  };
}

const NONE: ReadonlySet<string> = new Set();

/**
 * @param parameters of the statement without leases
 * @param runIds runs that may wake, in the order of the commands
 * @returns the rows of the statement without leases, in their order, and which of the runs were leased
 */
export async function queryWaking<Row extends object>(
  db: Database,
  { plain, leasing }: WakingStatements,
  parameters: readonly Parameter[],
  runIds: readonly string[],
  keepers: KeeperSlots | undefined,
): Promise<{ readonly rows: readonly Row[]; readonly leased: ReadonlySet<string> }> {
  const reservation = keepers?.reserve(runIds);
  if (reservation === undefined) return { rows: await db.query<Row>(plain, parameters), leased: NONE };
  let claims: readonly (ClaimedRun | null)[] = [];
  try {
    const rows = await db.query<Row & Prefixed & { readonly place: unknown }>(leasing, [
      ...parameters,
      plainArray(runIds),
      plainArray(reservation.slots, (slot) => slot?.workerId),
    ]);
    claims = claimsOf(rows, runIds.length);
    return {
      rows: rows.filter(({ place, leased_nth: nth }) => place !== null && (nth === null || nth === 1)),
      leased: new Set(claims.flatMap((claim) => (claim === null ? [] : [claim.run.runId]))),
    };
  } finally {
    reservation.settle(claims);
  }
}

function claimsOf(rows: readonly Prefixed[], runs: number): (ClaimedRun | null)[] {
  const byRun = Array.from({ length: runs }, (): LeasedRow[] => []);
  for (const row of rows) {
    if (row.leased_ord !== null) byRun[row.leased_ord - 1]?.push(leasedRow(row));
  }
  return byRun.map((own) => {
    const [first] = own;
    if (first === undefined) return null;
    const arrivals = own.flatMap((row) => (row.nth === null ? [] : [{ ...arrivalOf(row), ...receivedUpdate(row) }]));
    return claimedRun(first.namespace, own, arrivals, CODE_IN_MEMORY);
  });
}

function leasedRow(row: Prefixed): LeasedRow {
  return Object.fromEntries(COLUMNS.map((column) => [column, row[`leased_${column}`]])) as unknown as LeasedRow;
}

function receivedUpdate(row: LeasedRow) {
  if (row.update_name === null) return {};
  const { update_name: name, update_request_id: requestId, update_sender: sender, update_answer: answer } = row;
  return { update: { name, requestId, sender, answer } };
}
