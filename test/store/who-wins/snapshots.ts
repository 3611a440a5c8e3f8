import type postgres from 'postgres';
import type { RacedRun } from './runs.js';

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
const TIME = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d/;

/** A value without what is different in runs that are equal: ids, and times. */
export function normalized(value: unknown, { runId, childId }: RacedRun, key = ''): unknown {
  if (value instanceof Date) return '<time>';
  if (typeof value === 'number' && key.endsWith('Ms')) return '<ms>';
  if (typeof value === 'string') {
    if (TIME.test(value)) return '<time>';
    return value.replaceAll(UUID, (id) => (id === runId ? '<run>' : id === childId ? '<child>' : '<id>'));
  }
  if (typeof value !== 'object' || value === null) return value;
  const run = { runId, childId } as RacedRun;
  if (Array.isArray(value)) return value.map((part) => normalized(part, run));
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, normalized(part, run, name)]));
}

/** All rows of each run, and of its child, by run id. */
export async function rowsOf(sql: postgres.Sql, runs: readonly RacedRun[]): Promise<ReadonlyMap<string, unknown>> {
  const rows = await sql<{ run_id: string; rows: unknown }[]>`
    select r.run_id, jsonb_build_object(
      'run', to_jsonb(r),
      'steps', (select jsonb_agg(to_jsonb(s) order by s.seq, s.step_id, s.attempt_number) from perdure.step_runs s where s.run_id = r.run_id),
      'signals', (select jsonb_agg(to_jsonb(s) order by s.seq) from perdure.signals s where s.run_id = r.run_id),
      'updates', (select jsonb_agg(to_jsonb(u) order by u.seq) from perdure.run_updates u where u.run_id = r.run_id),
      'pauses', (select jsonb_agg(to_jsonb(p) order by p.seq) from perdure.run_pauses p where p.run_id = r.run_id),
      'actions', (select jsonb_agg(to_jsonb(a) order by a.seq) from perdure.run_actions a where a.run_id = r.run_id),
      'cuts', (select jsonb_agg(to_jsonb(c)) from perdure.child_cuts c where c.run_id = r.run_id),
      'children', (select jsonb_agg(to_jsonb(c)) from perdure.workflow_runs c where c.parent_run_id = r.run_id),
      'forks', (select jsonb_agg(to_jsonb(s) - 'run_id' order by s.seq, s.step_id) from perdure.step_runs s
        join perdure.workflow_runs f on f.run_id = s.run_id where f.origin_run_id = r.run_id),
      'untold', (select jsonb_agg(to_jsonb(e)) from perdure.child_ends e
        join perdure.workflow_runs c on c.run_id = e.child_id where c.parent_run_id = r.run_id)
    ) as rows
    from perdure.workflow_runs r where r.run_id in ${sql(runs.map(({ runId }) => runId))}`;
  const byId = new Map(rows.map((row) => [row.run_id, row.rows]));
  return new Map(runs.map((run) => [run.runId, normalized(byId.get(run.runId), run)]));
}
