/** Mistakes that keep a part from starting are reported in one sentence, each with its documented exit code. */
import { CliError, EXIT } from '../exit-codes.js';
import { fileFailure } from '../file-failure.js';
import { loadStore } from './parts.js';

/** Runs what starts a part, and turns what a user can fix into a {@link CliError}. */
export async function withPlainFailures<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw (await startFailure(error)) ?? error;
  }
}

/** @returns undefined for an error that a user did not cause: it keeps its stack */
async function startFailure(error: unknown): Promise<CliError | undefined> {
  if (!(error instanceof Error) || error instanceof CliError) return undefined;
  const { message } = error;
  // The classes belong to optional packages, so they are recognised by name.
  if (error.name === 'PortTakenError') return new CliError(message, EXIT.usage);
  if (error.name === 'EmbeddedPostgresError') {
    const { problem } = error as Error & { problem: string };
    return new CliError(message, problem === 'not_started' ? EXIT.unavailable : EXIT.usage);
  }
  const database = (await loadStore()).databaseProblemOf(error);
  switch (database?.problem) {
    case 'unavailable':
      return new CliError(database.message, EXIT.unavailable);
    case 'not_migrated':
      return new CliError(database.message, EXIT.refused);
    case 'refused':
      return new CliError(database.message, EXIT.usage);
    default:
      return fileFailure(error);
  }
}
