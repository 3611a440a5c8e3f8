import type { Relatives } from '../../commands.js';

/** Null unless the run has just ended. */
export interface RelativesRow {
  readonly has_parent: boolean | null;
  readonly has_children: boolean | null;
}

/** @returns who is affected by the end of a run; nothing when nobody is */
export function relativesOf(row: RelativesRow): { readonly relatives?: Relatives } {
  const relatives = { hasParent: row.has_parent === true, hasChildren: row.has_children === true };
  return relatives.hasParent || relatives.hasChildren ? { relatives } : {};
}

/**
 * Marks runs whose steps no longer wait for the children that they have started, so that the sweep closes the children when the process that
 * is about to do it dies. The caller has locked the runs.
 *
 * @param runs a query of run ids
 */
export const markCuts = (runs: string): string => `marked as (
    insert into perdure.child_cuts as m (run_id, cut_at, mark)
    select c.run_id, perdure.clock(), gen_random_uuid() from (${runs}) c group by c.run_id order by c.run_id
    on conflict (run_id) do update set cut_at = excluded.cut_at, mark = excluded.mark
  )`;
