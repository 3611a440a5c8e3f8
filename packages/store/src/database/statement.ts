/** A named, static SQL text. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

const registry = new Map<string, Statement>();

/**
 * Registers a statement under its name, so that a test can PREPARE every statement and check the plans of the hot ones.
 * The name is a comment before the text, so that pg_stat_activity and the database's log show it.
 */
export function defineStatement(name: string, text: string): Statement {
  if (registry.has(name)) throw new Error(`Two statements are named '${name}'; every statement needs its own name.`);
  const statement = { name, text: `/* perdure:${name} */ ${text}` };
  registry.set(name, statement);
  return statement;
}

/** All statements of the package. */
export function allStatements(): readonly Statement[] {
  return [...registry.values()];
}
