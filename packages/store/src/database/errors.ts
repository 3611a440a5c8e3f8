/** The database cannot be reached or gave no answer; whether the statement took effect is unknown. */
export class DatabaseUnavailableError extends Error {
  override readonly name = 'DatabaseUnavailableError';
}

/** PostgreSQL refuses a value of one of the commands; the others are not the cause. */
export class DataError extends Error {
  override readonly name = 'DataError';
}

/** PostgreSQL ended the statement because it ran longer than `statementTimeoutMs`; nothing was changed. */
export class StatementTimeoutError extends Error {
  override readonly name = 'StatementTimeoutError';
}

/** SQLSTATEs after which a single statement is run again: serialization failure and deadlock. */
export const RETRYABLE_STATES: ReadonlySet<string> = new Set(['40001', '40P01']);

/** Codes of the driver and of sockets that mean: no connection, or it broke. */
const CONNECTION_CODES: ReadonlySet<string> = new Set([
  'CONNECTION_CLOSED',
  'CONNECTION_ENDED',
  'CONNECTION_DESTROYED',
  'CONNECT_TIMEOUT',
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOENT',
  'EPIPE',
  'ETIMEDOUT',
  'ERR_STREAM_DESTROYED',
]);

/** The SQLSTATE or driver code of an error, or the empty string. */
export function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : '';
}

/** A unique key refused a row, as {@link classifyError} shows it. */
export function isUniqueViolation(error: unknown): boolean {
  return error instanceof DataError && codeOf(error.cause) === '23505';
}

/**
 * Classifies what the driver threw: connection exceptions (class 08), operator intervention (57P), lack of resources (53),
 * a server that became read-only after a fail-over (25006) → unavailable; data exceptions (22), integrity (23)
 * and limits (54) → data; anything else stays as it is.
 */
export function classifyError(error: unknown): unknown {
  const code = codeOf(error);
  const message = error instanceof Error ? error.message : String(error);
  if (code === '57014' && /statement timeout/.test(message)) {
    return new StatementTimeoutError('PostgreSQL ended the statement because it exceeded its timeout.', {
      cause: error,
    });
  }
  if (CONNECTION_CODES.has(code) || /^(08|53|57P|25006|58)/.test(code) || code === '57014') {
    return new DatabaseUnavailableError(`PostgreSQL is unavailable (${code}): ${message}`, { cause: error });
  }
  if (/^(22|23|54)/.test(code))
    return new DataError(`PostgreSQL refused a value (${code}): ${message}`, { cause: error });
  return error;
}
