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
