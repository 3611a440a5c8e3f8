import postgres from 'postgres';
import { classifyError, codeOf, DatabaseUnavailableError, RETRYABLE_STATES } from './errors.js';
import { type Listener, type ListenerOptions, listenForever } from './listener.js';
import { defineStatement, type Statement } from './statement.js';

export interface DatabaseOptions {
  /** Connection string; passwords in it are never logged. */
  readonly url: string;
  /** Connections at the most, 1 to 1,000; default 10. One more is used while listening. */
  readonly maxConnections?: number;
  /** Default true; false behind a pooler in transaction mode that cannot keep prepared statements. */
  readonly preparedStatements?: boolean;
  /** Shown in pg_stat_activity; default `perdure`. */
  readonly applicationName?: string;
  /** A statement without an answer for this long counts as a broken connection, in ms, 100 to 600,000; default 30,000. */
  readonly queryTimeoutMs?: number;
}

/** A parameter as the driver sends it: text, or null. */
export type Parameter = string | number | boolean | null | Uint8Array;

/** Runs statements; a pool underneath, or one transaction. */
export interface Database {
  /**
   * Runs a statement and returns its rows. Deadlocks and serialization failures are run again here.
   *
   * @throws {DatabaseUnavailableError} no connection, it broke, or no answer in time: the outcome is unknown
   * @throws {DataError} PostgreSQL refused a value
   */
  query<Row extends object>(statement: Statement, parameters: readonly Parameter[]): Promise<readonly Row[]>;
  /** Runs several statements as one transaction (READ COMMITTED: each sees what committed before it began). */
  transaction<T>(work: (db: Database) => Promise<T>): Promise<T>;
  /** Listens on a channel over a connection of its own, for as long as it is not stopped; see {@link listenForever}. */
  listen(options: Pick<ListenerOptions, 'channel' | 'onPayload' | 'onListening' | 'onInterrupted'>): Listener;
  /** Sends a notification. `payload`: at most 7,900 bytes. */
  notify(channel: string, payload: string): Promise<void>;
  /** Ends all connections; statements under way get up to 5 s. */
  close(): Promise<void>;
}

/**
 * Every statement is keyed, so its plan is the same for all parameters and sizes: it is made once per connection. Without
 * this PostgreSQL plans anew for each batch, which costs more than the batch; and a plan that was made while tables were
 * empty must not scan them when they have grown.
 */
const PLANNING = {
  plan_cache_mode: 'force_generic_plan',
  enable_seqscan: 'off',
  random_page_cost: '1.1',
  jit: 'off',
} as const;

const NOTIFY = defineStatement('notify', 'select pg_notify($1, $2)');
const MAX_RERUNS = 5;

/** Opens a pool. Connections are made on demand and again whenever they break. */
export function openDatabase(options: DatabaseOptions): Database {
  const prepare = options.preparedStatements ?? true;
  const timeoutMs = options.queryTimeoutMs ?? 30_000;
  const sql = postgres(options.url, {
    max: options.maxConnections ?? 10,
    prepare,
    // Array parameters are literals of ours and array columns are avoided, so the driver needs no catalogue query.
    fetch_types: false,
    connect_timeout: 5,
    idle_timeout: 0,
    max_lifetime: null,
    backoff: (attempt) => Math.min(0.05 * 2 ** attempt, 2),
    onnotice: () => undefined,
    connection: { application_name: options.applicationName ?? 'perdure', ...PLANNING },
  });

  const run = <Row extends object>(
    on: postgres.Sql | postgres.TransactionSql,
    statement: Statement,
    parameters: readonly Parameter[],
  ) =>
    withTimeout(
      on.unsafe(statement.text, parameters as never[], { prepare }) as unknown as Promise<readonly Row[]>,
      timeoutMs,
      statement.name,
    );

  const database: Database = {
    async query<Row extends object>(statement: Statement, parameters: readonly Parameter[]) {
      for (let rerun = 0; ; rerun++) {
        try {
          return await run<Row>(sql, statement, parameters);
        } catch (error) {
          if (rerun < MAX_RERUNS && RETRYABLE_STATES.has(codeOf(error))) continue;
          throw classifyError(error);
        }
      }
    },
    async transaction(work) {
      for (let rerun = 0; ; rerun++) {
        try {
          return (await sql.begin((transaction) => work(inside(transaction, run)))) as Awaited<ReturnType<typeof work>>;
        } catch (error) {
          if (rerun < MAX_RERUNS && RETRYABLE_STATES.has(codeOf(error))) continue;
          throw classifyError(error);
        }
      }
    },
    listen: (listenerOptions) =>
      listenForever({ url: options.url, applicationName: options.applicationName ?? 'perdure', ...listenerOptions }),
    async notify(channel, payload) {
      await database.query(NOTIFY, [channel, payload]);
    },
    close: () => sql.end({ timeout: 5 }),
  };
  return database;
}

type Run = <Row extends object>(
  on: postgres.Sql | postgres.TransactionSql,
  statement: Statement,
  parameters: readonly Parameter[],
) => Promise<readonly Row[]>;

/** The same interface on one transaction's connection; errors pass unchanged to the transaction's own handling. */
function inside(transaction: postgres.TransactionSql, run: Run): Database {
  const refuse = (what: string) => (): never => {
    throw new Error(`${what} is not possible inside a transaction.`);
  };
  return {
    query: (statement, parameters) => run(transaction, statement, parameters),
    transaction: (work) => work(inside(transaction, run)),
    listen: refuse('listen'),
    notify: refuse('notify'),
    close: refuse('close'),
  };
}

/** A black-holed connection never answers; its caller must not wait for it longer than this. */
async function withTimeout<T>(work: Promise<T>, timeoutMs: number, name: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expiry = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new DatabaseUnavailableError(`PostgreSQL did not answer '${name}' within ${timeoutMs} ms.`)),
      timeoutMs,
    );
    timer.unref();
  });
  try {
    return await Promise.race([work, expiry]);
  } finally {
    clearTimeout(timer);
  }
}
