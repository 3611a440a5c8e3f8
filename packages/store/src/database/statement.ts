/** A named, static SQL text. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

const registry = new Map<string, Statement>();

/**
 * Registers a statement under its name, so that a test can PREPARE every one and look at the plans of the hot ones.
 * The name is put in front as a comment: it is what pg_stat_activity and the database's log show.
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
