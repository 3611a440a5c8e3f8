/**
 * Starts runs, idempotently.
 *
 * The fast path is one INSERT: the primary key refuses a repeat (the request id is hashed into the run id) or the unique index
 * on (namespace, request_id) does, and the unique index on (namespace, workflow_id) among open runs refuses a second open
 * run. Refused starts are judged afterwards with a new snapshot: an equal start finds its run, any other gets the conflicting
 * run, and one whose conflicting run has just ended is inserted again.
 *
 * Starts that must read ended runs too (a reuse policy other than ALLOW) are `guarded`: they take an advisory lock on their
 * workflow id in a separate statement before they insert, so that the insert's snapshot sees everything that an earlier guarded
 * start of the same id has done. Starts with a start timeout or a chain timeout are guarded too: the limits are written in the same transaction.
 *
 * Equal means: same type, task queue and input, byte for byte. Equal request ids are one start, even with another workflow id: the
 * answer has the workflow id of the run.
 *
 * When starts of one batch share a request id or a workflow id, only the first is inserted; the others are judged against it.
 *
 * A start may come with a free slot of a worker that waits for such a run. Then the run is inserted as RUNNING, leased to
 * that worker: start and claim in one write. Whether the worker may get runs, and whether its queue or
 * type is paused, is read in the same statement; if not, the run is PENDING like any other. Only exceptions are returned: starts that were refused or not leased as
 * reserved.
 */
import type { ClaimedRun, StartRun, StartRunOutcome, StartSlot } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { byteaArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import { inRounds } from '../parts/batch.js';
import { judgeStarts, refusalOf } from './judge-starts.js';
import { isLimited, limitRuns } from './limit-runs.js';
import { terminateRuns } from './terminate-runs.js';

const START_RUNS = defineStatement(
  'start_runs',
  `with command as (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::text[], $8::text[],
      $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::int[], $14::bytea[], $15::text[], $16::uuid[],
      $17::int[], $18::uuid[])
      with ordinality as t(run_id, namespace, workflow_id, workflow_type, task_queue, priority, build, request_id,
        reuse_policy, start_delay_ms, run_timeout_ms, execution_timeout_ms, max_lost_leases, input, input_encoding,
        worker_id, lease_ms, fresh_run_id, ord)
  ),
  pause as materialized (
    select p.namespace, p.kind, p.name from perdure.dispatch_pauses p
    where exists (select 1 from command c where c.worker_id is not null and c.namespace = p.namespace
      and p.name = case p.kind when 'TASK_QUEUE' then c.task_queue else c.workflow_type end)
    for key share
  ),
  started as (
  insert into perdure.workflow_runs (run_id, namespace, workflow_id, workflow_type, task_queue, priority, build,
      request_id, status, yield_reason, available_at, wake_at, lease_token, leased_by, lease_expires_at, started_at,
      run_deadline_at, execution_deadline_at, execution_timeout_ms, max_lost_leases, created_at, updated_at, input,
      input_encoding)
    select c.run_id, c.namespace, c.workflow_id, c.workflow_type, c.task_queue, c.priority, c.build, c.request_id,
      case when c.start_delay_ms > 0 then 'SLEEPING' when w.worker_id is not null then 'RUNNING' else 'PENDING' end,
      case when c.start_delay_ms > 0 then 'START_DELAY' end,
      case when c.start_delay_ms = 0 and w.worker_id is null then perdure.clock() end,
      case when c.start_delay_ms > 0 then perdure.clock() + c.start_delay_ms * interval '1 ms' end,
      case when w.worker_id is null then 0 else 1 end, w.worker_id, perdure.clock() + w.lease_ms * interval '1 ms',
      case when w.worker_id is not null then perdure.clock() end,
      case when c.run_timeout_ms > 0 then perdure.clock() + c.run_timeout_ms * interval '1 ms' end,
      case when w.worker_id is not null and c.execution_timeout_ms > 0
        then perdure.clock() + c.execution_timeout_ms * interval '1 ms' end,
      c.execution_timeout_ms, c.max_lost_leases, perdure.clock(), perdure.clock(), c.input, c.input_encoding
    from command c
    join perdure.namespaces n on n.name = c.namespace
    left join perdure.workers w on w.worker_id = c.worker_id and w.namespace = c.namespace
      and w.task_queue = c.task_queue and w.lease_ms = c.lease_ms and w.status = 'ONLINE' and c.start_delay_ms = 0
      and not exists (select 1 from pause p where p.namespace = c.namespace
        and p.name = case p.kind when 'TASK_QUEUE' then c.task_queue else c.workflow_type end)
    left join lateral (select x.run_id from perdure.workflow_runs x where x.run_id = c.fresh_run_id limit 1) former on true
    where former.run_id is null
      and (c.reuse_policy in ('ALLOW', 'TERMINATE_EXISTING') or not exists (
        select 1 from perdure.workflow_runs e
        where e.namespace = c.namespace and e.workflow_id = c.workflow_id
          and (c.reuse_policy = 'REJECT'
            or (c.reuse_policy = 'ALLOW_IF_FAILED' and e.status = 'COMPLETED'
              and e.run_id = (select max(x.run_id::text)::uuid from perdure.workflow_runs x
                where x.namespace = c.namespace and x.workflow_id = c.workflow_id)))))
    order by c.ord
    on conflict do nothing
    returning run_id, leased_by
  )
  select 0 as ord, true as started, perdure.clock() as now
  union all
  select c.ord::int, s.run_id is not null, null
  from command c
  left join started s on s.run_id = c.run_id
  where s.run_id is null or s.leased_by is distinct from c.worker_id`,
);

const LOCK_WORKFLOW_IDS = defineStatement(
  'lock_workflow_ids',
  `select count(pg_advisory_xact_lock(key))::int as locked from (
    select distinct hashtextextended(id, 7300) as key from unnest($1::text[]) as t(id) order by key
  ) as keys`,
);

const OPEN_RUNS_OF = defineStatement(
  'open_runs_of',
  `select r.run_id, r.namespace, r.workflow_id from unnest($1::text[], $2::text[]) as c(namespace, workflow_id)
  join perdure.workflow_runs r on r.namespace = c.namespace and r.workflow_id = c.workflow_id and r.finished_at is null`,
);

const NO_SLOTS: readonly null[] = [];

/**
 * @param slots for each command a slot that it may be leased to, or null; guarded starts do not use theirs
 * @returns one outcome per command, in their order
 */
export async function startRuns(
  db: Database,
  commands: readonly StartRun[],
  slots: readonly (StartSlot | null)[] = NO_SLOTS,
): Promise<StartRunOutcome[]> {
  const outcomes = new Array<StartRunOutcome>(commands.length);
  const part = async (guarded: boolean, start: (starts: readonly Start[]) => Promise<StartRunOutcome[]>) => {
    const indexes = commands.flatMap((command, index) => (isGuarded(command) === guarded ? [index] : []));
    if (indexes.length === 0) return;
    const answers = await start(
      indexes.map((index) => ({
        command: commands[index] as StartRun,
        slot: guarded ? null : (slots[index] ?? null),
      })),
    );
    indexes.forEach((index, position) => {
      outcomes[index] = answers[position] as StartRunOutcome;
    });
  };
  await part(false, (plain) => startInRounds(db, plain));
  await part(true, (guarded) =>
    db.transaction(async (transaction) => {
      await lockWorkflowIds(
        transaction,
        guarded.map(({ command }) => command),
      );
      await terminateExisting(
        transaction,
        guarded.map(({ command }) => command),
      );
      return startLimited(transaction, guarded);
    }),
  );
  return outcomes;
}

interface Start {
  readonly command: StartRun;
  readonly slot: StartSlot | null;
}

/** A guarded start is committed with its transaction, so it cannot be leased before. So is one with limits of its own. */
export function isGuarded(command: StartRun): boolean {
  return command.reusePolicy !== 'ALLOW' || isLimited(command);
}

/** A repeat of a start that terminated another run must not terminate its own run, so equal requests are read first. */
async function terminateExisting(db: Database, commands: readonly StartRun[]): Promise<void> {
  const replacing = commands.filter((command) => command.reusePolicy === 'TERMINATE_EXISTING');
  if (replacing.length === 0) return;
  const judged = await judgeStarts(db, replacing);
  const fresh = replacing.filter((_, index) => judged[index]?.same_request !== true);
  const open = await findOpenRuns(db, fresh);
  await terminateRuns(
    db,
    open.map(({ namespace, runId }) => ({
      namespace,
      runId,
      reason: 'Another run was started with the same workflow id.',
    })),
  );
}

/** Makes other callers of the same workflow ids wait for the end of the transaction. */
export async function lockWorkflowIds(transaction: Database, commands: readonly StartRun[]): Promise<void> {
  await transaction.query(LOCK_WORKFLOW_IDS, [textArray(commands, workflowKey)]);
}

/** The open runs of the workflow ids. */
export async function findOpenRuns(
  db: Database,
  commands: readonly StartRun[],
): Promise<readonly { readonly runId: string; readonly namespace: string; readonly workflowId: string }[]> {
  if (commands.length === 0) return [];
  const rows = await db.query<{ run_id: string; namespace: string; workflow_id: string }>(OPEN_RUNS_OF, [
    textArray(commands, (command) => command.namespace),
    textArray(commands, (command) => command.workflowId),
  ]);
  return rows.map((row) => ({ runId: row.run_id, namespace: row.namespace, workflowId: row.workflow_id }));
}

/** Starts runs inside a transaction that has locked their workflow ids. */
export function startPlainRuns(transaction: Database, commands: readonly StartRun[]): Promise<StartRunOutcome[]> {
  return startLimited(
    transaction,
    commands.map((command) => ({ command, slot: null })),
  );
}

async function startLimited(transaction: Database, starts: readonly Start[]): Promise<StartRunOutcome[]> {
  const outcomes = await startInRounds(transaction, starts);
  await limitRuns(
    transaction,
    starts.flatMap(({ command }, index) => (outcomes[index]?.kind === 'started' ? [command] : [])),
  );
  return outcomes;
}

const workflowKey = ({ namespace, workflowId }: StartRun): string => `${namespace}\n${workflowId}`;

function startInRounds(db: Database, starts: readonly Start[]): Promise<StartRunOutcome[]> {
  let next = 0;
  return inRounds(
    starts,
    // All in one round: starts that would conflict are left out below.
    () => String(next++),
    (round) => startOnce(db, round),
  );
}

/**
 * Starts that one statement can insert: the first of each workflow id, request id and run id. In the order of the ids, so that
 * servers that start the same ids at the same time never wait for each other in a circle.
 */
function firstOnes(starts: readonly Start[]): readonly Start[] {
  const inOrder = [...starts].sort((a, b) => byWorkflowId(a.command, b.command));
  const runIds = new Set<string>();
  const requests = new Set<string>();
  let previous: StartRun | undefined;
  return inOrder.filter(({ command }) => {
    const request = command.requestId === null ? undefined : `${command.namespace}\n${command.requestId}`;
    if (previous !== undefined && byWorkflowId(previous, command) === 0) return false;
    if (runIds.has(command.runId) || (request !== undefined && requests.has(request))) return false;
    previous = command;
    runIds.add(command.runId);
    if (request !== undefined) requests.add(request);
    return true;
  });
}

/** Makes no text for it: a batch compares each start many times. */
function byWorkflowId(a: StartRun, b: StartRun): number {
  if (a.workflowId !== b.workflowId) return a.workflowId < b.workflowId ? -1 : 1;
  if (a.namespace === b.namespace) return 0;
  return a.namespace < b.namespace ? -1 : 1;
}

async function startOnce(db: Database, all: readonly Start[]): Promise<readonly (StartRunOutcome | 'raced')[]> {
  const starts = firstOnes(all);
  const outcomes = new Map(await insertOnce(db, starts));
  const repeats = all.filter((start) => !outcomes.has(start)).map(({ command }) => command);
  const judged = repeats.length === 0 ? [] : await judgeStarts(db, repeats);
  let next = 0;
  return all.map((start) => outcomes.get(start) ?? refusalOf(start.command, judged[next++]));
}

async function insertOnce(
  db: Database,
  starts: readonly Start[],
): Promise<readonly (readonly [Start, StartRunOutcome | 'raced'])[]> {
  const rows = await db.query<{ ord: number; started: boolean; now: Date | null }>(START_RUNS, [
    plainArray(starts, ({ command }) => command.runId),
    textArray(starts, ({ command }) => command.namespace),
    textArray(starts, ({ command }) => command.workflowId),
    textArray(starts, ({ command }) => command.workflowType),
    textArray(starts, ({ command }) => command.taskQueue),
    plainArray(starts, ({ command }) => command.priority),
    textArray(starts, ({ command }) => command.build),
    textArray(starts, ({ command }) => command.requestId),
    plainArray(starts, ({ command }) => command.reusePolicy),
    plainArray(starts, ({ command }) => command.startDelayMs),
    plainArray(starts, ({ command }) => command.runTimeoutMs),
    plainArray(starts, ({ command }) => command.executionTimeoutMs),
    plainArray(starts, ({ command }) => command.maxLostLeases),
    byteaArray(starts, ({ command }) => command.input?.data),
    textArray(starts, ({ command }) => command.input?.encoding),
    plainArray(starts, ({ slot }) => slot?.workerId),
    plainArray(starts, ({ slot }) => slot?.leaseMs),
    plainArray(starts, ({ command }) => command.freshRunId),
  ]);
  const now = rows.find(({ ord }) => ord === 0)?.now ?? new Date(0);
  /** By place, from 1: whether the run was started. Starts not listed succeeded and were leased. */
  const exceptions = new Map(rows.map(({ ord, started }) => [ord, started]));
  const refused = starts.filter((_, index) => exceptions.get(index + 1) === false).map(({ command }) => command);
  const judged = refused.length === 0 ? [] : await judgeStarts(db, refused);
  let next = 0;
  return starts.map((start, index) => {
    const { command, slot } = start;
    const exception = exceptions.get(index + 1);
    if (exception === false) return [start, refusalOf(command, judged[next++])];
    const claim = slot === null || exception !== undefined ? null : claimOf(command, slot, now);
    return [start, { kind: 'started', runId: command.runId, delayed: command.startDelayMs > 0, claim }];
  });
}

/** The claim of a run that was inserted as leased. */
function claimOf(command: StartRun, slot: StartSlot, now: Date): ClaimedRun {
  const after = (ms: number) => (ms > 0 ? new Date(now.getTime() + ms) : null);
  return {
    run: {
      runId: command.runId,
      namespace: command.namespace,
      workflowId: command.workflowId,
      workflowType: command.workflowType,
      build: command.build,
      leaseToken: 1,
      attempt: 1,
      retries: 0,
      lostLeases: 0,
      cancelObserved: null,
      cancelRequestedAt: null,
      compensation: null,
      createdAt: now,
      startedAt: now,
      runDeadlineAt: after(command.runTimeoutMs),
      executionDeadlineAt: after(command.executionTimeoutMs),
      input: command.input,
    },
    leaseMs: slot.leaseMs,
    now,
    hasArrivals: false,
    arrivals: [],
    memo: [],
    nextMemoCursor: null,
  };
}
