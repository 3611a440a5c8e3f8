import type postgres from 'postgres';
import { answerWithin } from './answer-within.js';
import { openDriver } from './driver.js';
import { classifyError, codeOf, DatabaseUnavailableError, RETRYABLE_STATES } from './errors.js';
import { type Listener, type ListenerOptions, listenForever } from './listener.js';
import { defineStatement, type Statement } from './statement.js';
import { type Send, Transactions } from './transactions.js';

export interface DatabaseOptions {
  /** Connection string; passwords in it are never logged. */
  readonly url: string;
  /** Most connections for single statements, 1 to 1,000; default 10. Each listener uses one more. */
  readonly maxConnections?: number;
  /** Most further connections for transactions; default 2. They are opened when the first transactions run. */
  readonly maxTransactions?: number;
  /** Default true; false behind a pooler in transaction mode that cannot keep prepared statements. */
  readonly preparedStatements?: boolean;
  /**
   * Default true; false behind a pooler that refuses startup parameters that it does not know. Then the role should have
   * them, see docs/operations.md.
   */
  readonly startupParameters?: boolean;
  /** PostgreSQL ends a statement that runs longer than this, in ms; 0, the default: never. Needs `startupParameters`. */
  readonly statementTimeoutMs?: number;
  /** Called with each statement that had no answer or lost its connection. */
  readonly onUnavailable?: (error: DatabaseUnavailableError) => void;
  /** Shown in pg_stat_activity; default `perdure`. */
  readonly applicationName?: string;
  /** A connection whose statement has no answer for this long counts as broken, in ms, 100 to 600,000; default 30,000. */
  readonly queryTimeoutMs?: number;
}

/** A parameter as the driver sends it: text, or null. */
export type Parameter = string | number | boolean | null | Uint8Array;

/** What a read needs. */
export type Reader = Pick<Database, 'query'>;

export interface QueryOptions {
  /** Longest wait for the answer instead of `queryTimeoutMs`, in ms. */
  readonly timeoutMs?: number;
}

/** Runs statements over a pool, or in one transaction. */
export interface Database {
  /**
   * Runs a statement and returns its rows. Runs it again after a deadlock or a serialization failure.
   *
   * @throws {DatabaseUnavailableError} no connection, it broke, or no answer in time: the outcome is unknown
   * @throws {DataError} PostgreSQL refused a value
   */
  query<Row extends object>(
    statement: Statement,
    parameters: readonly Parameter[],
    options?: QueryOptions,
  ): Promise<readonly Row[]>;
  /** Runs several statements as one transaction (READ COMMITTED: each sees what committed before it began). */
  transaction<T>(work: (db: Database) => Promise<T>): Promise<T>;
  /** Listens on a channel over its own connection until it is stopped; see {@link listenForever}. */
  listen(options: Pick<ListenerOptions, 'channel' | 'onPayload' | 'onListening' | 'onInterrupted'>): Listener;
  /** Sends a notification. `payload`: at most 7,900 bytes. */
  notify(channel: string, payload: string): Promise<void>;
  /** Ends all connections; statements in flight get up to 5 s. */
  close(): Promise<void>;
}

/**
 * Every statement works by key, so one plan per connection is right for all parameters and sizes. Without these settings
 * PostgreSQL plans again for each batch, which costs more than the batch; and a plan made while tables were empty must not scan
 * them when they have grown.
 */
const PLANNING = {
  plan_cache_mode: 'force_generic_plan',
  enable_seqscan: 'off',
  random_page_cost: '1.1',
  jit: 'off',
} as const;

const NOTIFY = defineStatement('notify', 'select pg_notify($1, $2)');
const MAX_RERUNS = 5;

/** Opens a pool. Connections are opened on demand, and again when they break. */
export function openDatabase(options: DatabaseOptions): Database {
  const prepare = options.preparedStatements ?? true;
  const timeoutMs = options.queryTimeoutMs ?? 30_000;
  const applicationName = options.applicationName ?? 'perdure';
  const statementTimeoutMs = options.statementTimeoutMs ?? 0;
  const driver = {
    preparedStatements: prepare,
    parameters: {
      application_name: applicationName,
      ...((options.startupParameters ?? true)
        ? { ...PLANNING, ...(statementTimeoutMs > 0 ? { statement_timeout: String(statementTimeoutMs) } : {}) }
        : {}),
    },
  };
  const sql = openDriver(options.url, { ...driver, maxConnections: options.maxConnections ?? 10 });

  const send = <Row extends object>(
    on: postgres.Sql,
    text: string,
    parameters: readonly unknown[] | undefined,
    withinMs = timeoutMs,
  ) =>
    answerWithin(
      (parameters === undefined
        ? on.unsafe(text)
        : on.unsafe(text, parameters as never[], { prepare })) as unknown as Promise<readonly Row[]>,
      withinMs,
      () => new DatabaseUnavailableError(`PostgreSQL did not answer '${nameOf(text)}' within ${withinMs} ms.`),
    );
  const sendInTransaction: Send = (on, text, parameters) => send(on, text, parameters);
  const transactions = new Transactions(
    (onClose) => openDriver(options.url, { ...driver, maxConnections: 1, onClose }),
    sendInTransaction,
    options.maxTransactions ?? 2,
  );

  const guarded = <T>(run: () => Promise<T>): Promise<T> =>
    options.onUnavailable === undefined ? withReruns(run) : withReruns(run, options.onUnavailable);

  const database: Database = {
    query: <Row extends object>(statement: Statement, parameters: readonly Parameter[], queryOptions?: QueryOptions) =>
      guarded(() => send<Row>(sql, statement.text, parameters, queryOptions?.timeoutMs)),
    transaction: (work) =>
      guarded(() => transactions.run((sendOn) => work(inside((text, parameters) => sendOn(text, parameters))))),
    listen: (listenerOptions) => listenForever({ url: options.url, applicationName, ...listenerOptions }),
    async notify(channel, payload) {
      await database.query(NOTIFY, [channel, payload]);
    },
    async close() {
      await Promise.all([sql.end({ timeout: 5 }), transactions.close()]);
    },
  };
  return database;
}

/** Deadlocks and serialization failures are run again; everything else is classified. */
async function withReruns<T>(
  run: () => Promise<T>,
  onUnavailable?: (error: DatabaseUnavailableError) => void,
): Promise<T> {
  for (let rerun = 0; ; rerun++) {
    try {
      return await run();
    } catch (error) {
      if (rerun < MAX_RERUNS && RETRYABLE_STATES.has(codeOf(error))) continue;
      const classified = classifyError(error);
      if (classified instanceof DatabaseUnavailableError) onUnavailable?.(classified);
      throw classified;
    }
  }
}

/** The same interface on one transaction's connection; errors pass unchanged to the transaction's own handling. */
function inside(
  send: <Row extends object>(text: string, parameters: readonly Parameter[]) => Promise<readonly Row[]>,
): Database {
  const refuse = (what: string) => (): never => {
    throw new Error(`${what} is not possible inside a transaction.`);
  };
  const database: Database = {
    query: (statement, parameters) => send(statement.text, parameters),
    transaction: (work) => work(database),
    listen: refuse('listen'),
    notify: refuse('notify'),
    close: refuse('close'),
  };
  return database;
}

/** The name of a statement is a comment before its text. */
function nameOf(text: string): string {
  return /^\/\* perdure:(\w+) \*\//.exec(text)?.[1] ?? text.slice(0, 40);
}
