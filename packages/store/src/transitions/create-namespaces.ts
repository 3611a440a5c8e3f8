/** Creates namespaces; an existing one is not changed. */
import type { Database } from '../database/database.js';
import { textArray } from '../database/literals.js';
import { defineStatement } from '../database/statement.js';

const CREATE_NAMESPACES = defineStatement(
  'create_namespaces',
  `insert into perdure.namespaces (name, description, created_at)
  select name, description, perdure.clock() from unnest($1::text[], $2::text[]) as t(name, description)
  on conflict do nothing
  returning name`,
);

export interface CreateNamespace {
  readonly name: string;
  readonly description: string;
}
export type CreateNamespaceOutcome = { readonly kind: 'created' | 'already_exists' };

/** @returns one outcome per command, in their order */
export async function createNamespaces(
  db: Database,
  commands: readonly CreateNamespace[],
): Promise<CreateNamespaceOutcome[]> {
  const rows = await db.query<{ name: string }>(CREATE_NAMESPACES, [
    textArray(commands, (command) => command.name),
    textArray(commands, (command) => command.description),
  ]);
  const created = new Set(rows.map((row) => row.name));
  return commands.map((command) => ({ kind: created.delete(command.name) ? 'created' : 'already_exists' }));
}
