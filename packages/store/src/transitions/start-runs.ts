/**
 * Starts runs, idempotently.
 *
 * The usual start is one INSERT: the primary key refuses a repeat (the request id is the run id) and the unique index on
 * (namespace, workflow_id) among open runs refuses a second open run. What the INSERT refused is judged afterwards with a
 * new snapshot: an equal start finds its run, any other is told which run is in the way, and one whose obstacle has just
 * ended is inserted again.
 *
 * Starts that must look at ended runs too (another reuse policy than ALLOW, or a request id that is not the run id) are
 * `guarded`: they take an advisory lock on their workflow id in a statement of its own before they insert, so that the
 * insert's snapshot sees everything that an earlier guarded start of the same id has done.
 *
 * Equal means: same type, task queue and input, byte for byte.
 *
 * A start may come with a free slot of a worker that waits for such a run. Then the run is inserted as RUNNING, leased to
 * that worker: start and claim in one write. Whether the worker may get runs is read in the same statement; if not, the run
 * is PENDING like any other. What was inserted is not sent back, since it is known; what was not, or not leased as hoped, is.
 */
import type { ClaimedRun, StartRun, StartRunOutcome, StartSlot } from '../commands.js';
import type { Database } from '../database/database.js';
import { byteaArray, plainArray, textArray } from '../database/literals.js';
import { defineStatement } from '../database/statement.js';
import type { RunStatus } from '../model.js';
import { inRounds } from './batch.js';
import { terminateRuns } from './terminate-runs.js';

const START_RUNS = defineStatement(
  'start_runs',
  `with command as (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::text[], $8::text[],
      $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::int[], $14::bytea[], $15::text[], $16::uuid[],
      $17::int[])
      with ordinality as t(run_id, namespace, workflow_id, workflow_type, task_queue, priority, version, request_id,
        reuse_policy, start_delay_ms, run_timeout_ms, execution_timeout_ms, max_lost_leases, input, input_encoding,
        worker_id, lease_ms, ord)
  ),
  started as (
  insert into perdure.workflow_runs (run_id, namespace, workflow_id, workflow_type, task_queue, priority, version,
      request_id, status, yield_reason, available_at, wake_at, lease_token, locked_by, locked_until, started_at,
      run_deadline_at, execution_deadline_at, execution_timeout_ms, max_lost_leases, created_at, updated_at, input,
      input_encoding)
    select c.run_id, c.namespace, c.workflow_id, c.workflow_type, c.task_queue, c.priority, c.version, c.request_id,
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
    where (c.request_id is null and c.reuse_policy in ('ALLOW', 'TERMINATE_EXISTING'))
      or not exists (
        select 1 from perdure.workflow_runs e
        where e.namespace = c.namespace and e.workflow_id = c.workflow_id
          and (e.request_id = c.request_id or c.reuse_policy = 'REJECT'
            or (c.reuse_policy = 'ALLOW_IF_FAILED' and e.status = 'COMPLETED'
              and e.run_id = (select max(x.run_id::text)::uuid from perdure.workflow_runs x
                where x.namespace = c.namespace and x.workflow_id = c.workflow_id))))
    order by c.ord
    on conflict do nothing
    returning run_id, locked_by
  )
  select 0 as ord, true as started, perdure.clock() as now
  union all
  select c.ord::int, s.run_id is not null, null
  from command c
  left join started s on s.run_id = c.run_id
  where s.run_id is null or s.locked_by is distinct from c.worker_id`,
);

const JUDGE_STARTS = defineStatement(
  'judge_starts',
  `with command as (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::text[])
      with ordinality as t(run_id, namespace, workflow_id, workflow_type, task_queue, request_id, input, input_encoding, ord)
  )
  select c.ord::int as ord, n.name is not null as has_namespace, e.run_id, e.status,
    e.run_id = c.run_id or coalesce(e.request_id = c.request_id, false) as same_request,
    e.workflow_type = c.workflow_type and e.task_queue = c.task_queue
      and e.input is not distinct from c.input and e.input_encoding is not distinct from c.input_encoding as equal
  from command c
  left join perdure.namespaces n on n.name = c.namespace
  left join lateral (
    select * from perdure.workflow_runs w
    where w.namespace = c.namespace and (w.workflow_id = c.workflow_id or w.run_id = c.run_id)
    order by w.run_id = c.run_id desc, coalesce(w.request_id = c.request_id, false) desc,
      w.finished_at is null desc, w.run_id desc
    limit 1
  ) e on true
  order by c.ord`,
);

const LOCK_WORKFLOW_IDS = defineStatement(
  'lock_workflow_ids',
  `select count(pg_advisory_xact_lock(key))::int as locked from (
    select distinct hashtextextended(id, 7300) as key from unnest($1::text[]) as t(id) order by key
  ) as keys`,
);

const OPEN_RUNS_OF = defineStatement(
  'open_runs_of',
  `select r.run_id, r.namespace from unnest($1::text[], $2::text[]) as c(namespace, workflow_id)
  join perdure.workflow_runs r on r.namespace = c.namespace and r.workflow_id = c.workflow_id and r.finished_at is null`,
);

interface JudgedRow {
  readonly has_namespace: boolean;
  readonly run_id: string | null;
  readonly status: RunStatus;
  readonly same_request: boolean;
  readonly equal: boolean;
}

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
      const keys = textArray(guarded, ({ command }) => `${command.namespace}\n${command.workflowId}`);
      await transaction.query(LOCK_WORKFLOW_IDS, [keys]);
      await terminateExisting(
        transaction,
        guarded.map(({ command }) => command),
      );
      return startInRounds(transaction, guarded);
    }),
  );
  return outcomes;
}

interface Start {
  readonly command: StartRun;
  readonly slot: StartSlot | null;
}

/** A guarded start is committed with the transaction around it, so nothing may be handed out before. */
export function isGuarded(command: StartRun): boolean {
  return command.reusePolicy !== 'ALLOW' || command.requestId !== null;
}

/** A repeat of a start that terminated another must not terminate the run it started, hence the look at equal requests. */
async function terminateExisting(db: Database, commands: readonly StartRun[]): Promise<void> {
  const replacing = commands.filter((command) => command.reusePolicy === 'TERMINATE_EXISTING');
  if (replacing.length === 0) return;
  const judged = await judge(db, replacing);
  const fresh = replacing.filter((_, index) => judged[index]?.same_request !== true);
  const open = await db.query<{ run_id: string; namespace: string }>(OPEN_RUNS_OF, [
    textArray(fresh, (command) => command.namespace),
    textArray(fresh, (command) => command.workflowId),
  ]);
  await terminateRuns(
    db,
    open.map((row) => ({
      namespace: row.namespace,
      runId: row.run_id,
      reason: 'Another run was started with the same workflow id.',
    })),
  );
}

const keyOf = ({ command }: Start) => `${command.namespace}\n${command.workflowId}`;

/** Each is tried once per round; whoever raced with another transaction is tried again. */
function startInRounds(db: Database, starts: readonly Start[]): Promise<StartRunOutcome[]> {
  const places = new Map(starts.map((start, place) => [start, String(place)]));
  return inRounds(
    starts,
    (start) => places.get(start) as string,
    (round) => startFolded(db, round),
  );
}

/**
 * Inserts the first start of each workflow id, in the order of the ids: servers that start the same ids at the same time wait for
 * each other, but never in a circle. The other starts of these ids could only be refused; they are judged together,
 * however many there are, once the first ones are in.
 */
async function startFolded(db: Database, starts: readonly Start[]): Promise<readonly (StartRunOutcome | 'raced')[]> {
  const firsts = new Map<string, Start>();
  const others: Start[] = [];
  for (const start of starts) {
    const key = keyOf(start);
    if (firsts.has(key)) others.push(start);
    else firsts.set(key, start);
  }
  const inOrder = [...firsts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, start]) => start);
  const outcomes = new Map<Start, StartRunOutcome | 'raced'>();
  (await startOnce(db, inOrder)).forEach((outcome, index) => {
    outcomes.set(inOrder[index] as Start, outcome);
  });
  if (others.length > 0) {
    const commands = others.map(({ command }) => command);
    const judged = await judge(db, commands);
    others.forEach((start, index) => {
      outcomes.set(start, refusalOf(start.command, judged[index]));
    });
  }
  return starts.map((start) => outcomes.get(start) as StartRunOutcome | 'raced');
}

async function startOnce(db: Database, starts: readonly Start[]): Promise<readonly (StartRunOutcome | 'raced')[]> {
  const rows = await db.query<{ ord: number; started: boolean; now: Date | null }>(START_RUNS, [
    plainArray(starts, ({ command }) => command.runId),
    textArray(starts, ({ command }) => command.namespace),
    textArray(starts, ({ command }) => command.workflowId),
    textArray(starts, ({ command }) => command.workflowType),
    textArray(starts, ({ command }) => command.taskQueue),
    plainArray(starts, ({ command }) => command.priority),
    textArray(starts, ({ command }) => command.version),
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
  ]);
  const now = rows.find(({ ord }) => ord === 0)?.now ?? new Date(0);
  /** By place, from 1: whether the run was started at least. All others went as hoped. */
  const exceptions = new Map(rows.map(({ ord, started }) => [ord, started]));
  const refused = starts.filter((_, index) => exceptions.get(index + 1) === false).map(({ command }) => command);
  const judged = refused.length === 0 ? [] : await judge(db, refused);
  let next = 0;
  return starts.map(({ command, slot }, index) => {
    const exception = exceptions.get(index + 1);
    if (exception === false) return refusalOf(command, judged[next++]);
    return {
      kind: 'started',
      runId: command.runId,
      delayed: command.startDelayMs > 0,
      claim: slot === null || exception !== undefined ? null : claimOf(command, slot, now),
    };
  });
}

/** The lease of a run that was inserted as leased. */
function claimOf(command: StartRun, slot: StartSlot, now: Date): ClaimedRun {
  const after = (ms: number) => (ms > 0 ? new Date(now.getTime() + ms) : null);
  return {
    run: {
      runId: command.runId,
      namespace: command.namespace,
      workflowId: command.workflowId,
      workflowType: command.workflowType,
      version: command.version,
      leaseToken: 1,
      attempt: 1,
      retries: 0,
      lostLeases: 0,
      cancelObserved: null,
      cancelRequestedAt: null,
      createdAt: now,
      startedAt: now,
      runDeadlineAt: after(command.runTimeoutMs),
      executionDeadlineAt: after(command.executionTimeoutMs),
      input: command.input,
    },
    leaseMs: slot.leaseMs,
    now,
    memo: [],
    nextMemoCursor: null,
  };
}

function judge(db: Database, commands: readonly StartRun[]): Promise<readonly JudgedRow[]> {
  return db.query<JudgedRow>(JUDGE_STARTS, [
    plainArray(commands, (command) => command.runId),
    textArray(commands, (command) => command.namespace),
    textArray(commands, (command) => command.workflowId),
    textArray(commands, (command) => command.workflowType),
    textArray(commands, (command) => command.taskQueue),
    textArray(commands, (command) => command.requestId),
    byteaArray(commands, (command) => command.input?.data ?? null),
    textArray(commands, (command) => command.input?.encoding ?? null),
  ]);
}

function refusalOf(command: StartRun, found: JudgedRow | undefined): StartRunOutcome | 'raced' {
  if (found === undefined) throw new Error('A refused start was not judged.');
  if (!found.has_namespace) return { kind: 'namespace_not_found' };
  if (found.run_id === null) return 'raced';
  const open = !['COMPLETED', 'FAILED', 'CANCELLED', 'TERMINATED'].includes(found.status);
  const inTheWay =
    open ||
    command.reusePolicy === 'REJECT' ||
    (command.reusePolicy === 'ALLOW_IF_FAILED' && found.status === 'COMPLETED');
  if (!found.same_request && !inTheWay) return 'raced';
  if (!found.equal || (!found.same_request && command.reusePolicy === 'ALLOW_IF_FAILED' && !open)) {
    return { kind: 'already_exists', runId: found.run_id, status: found.status };
  }
  return { kind: 'existing', runId: found.run_id };
}
