/** Reads namespaces. */
import type { Reader } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { Namespace } from './queries.js';

const LIST_NAMESPACES = defineStatement(
  'list_namespaces',
  `select n.name, n.description, n.created_at from perdure.namespaces n
  where $1::text is null or n.name > $1
  order by n.name
  limit $2::int`,
);

const NAMESPACE_EXISTS = defineStatement(
  'namespace_exists',
  'select exists (select 1 from perdure.namespaces n where n.name = $1) as found',
);

/** @returns namespaces by name, those after the name `after` */
export async function listNamespaces(
  db: Reader,
  page: { readonly limit: number; readonly after: string | null },
): Promise<{ namespaces: readonly Namespace[]; next: string | null }> {
  const rows = await db.query<{ name: string; description: string; created_at: Date }>(LIST_NAMESPACES, [
    page.after,
    page.limit + 1,
  ]);
  const namespaces = rows
    .slice(0, page.limit)
    .map((row) => ({ name: row.name, description: row.description, createdAt: row.created_at }));
  return { namespaces, next: rows.length > page.limit ? (namespaces.at(-1)?.name ?? null) : null };
}

export async function namespaceExists(db: Reader, name: string): Promise<boolean> {
  const [row] = await db.query<{ found: boolean }>(NAMESPACE_EXISTS, [name]);
  return row?.found ?? false;
}
