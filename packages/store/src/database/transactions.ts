import type postgres from 'postgres';
import { codeOf, DatabaseUnavailableError } from './errors.js';

/** Sends one text over a connection, with a limit on the wait. */
export type Send = <Row extends object>(
  sql: postgres.Sql,
  text: string,
  parameters?: readonly unknown[],
) => Promise<readonly Row[]>;

/** A connection of one transaction at a time. A broken connection is discarded and never replaced silently. */
class TransactionConnection {
  readonly #sql: postgres.Sql;
  readonly #send: Send;
  #broken = false;

  constructor(open: (onClose: () => void) => postgres.Sql, send: Send) {
    this.#sql = open(() => {
      this.#broken = true;
    });
    this.#send = send;
  }

  get broken(): boolean {
    return this.#broken;
  }

  /** @throws {DatabaseUnavailableError} the connection has ended, and the transaction with it */
  async send<Row extends object>(text: string, parameters?: readonly unknown[]): Promise<readonly Row[]> {
    if (this.#broken) throw new DatabaseUnavailableError('The connection broke in the middle of a transaction.');
    try {
      return await this.#send<Row>(this.#sql, text, parameters);
    } catch (error) {
      // Without an SQLSTATE the connection has ended or is silent: the state of the transaction is not known.
      if (!/^[0-9A-Z]{5}$/.test(codeOf(error)) || /^(08|57P)/.test(codeOf(error))) this.#broken = true;
      throw error;
    }
  }

  async end(): Promise<void> {
    this.#broken = true;
    await this.#sql.end({ timeout: 0 });
  }
}

/**
 * Runs transactions, each over a connection of its own meanwhile. The driver's own `begin` also sends its rollback over a
 * connection that has closed, which throws outside any promise and ends the process, or over one that was opened again, where the
 * rest of the transaction would run without a transaction.
 */
export class Transactions {
  readonly #open: (onClose: () => void) => postgres.Sql;
  readonly #send: Send;
  readonly #maxConnections: number;
  readonly #all = new Set<TransactionConnection>();
  readonly #idle: TransactionConnection[] = [];
  readonly #waiting: (() => void)[] = [];

  /** @param open opens a pool of one connection */
  constructor(open: (onClose: () => void) => postgres.Sql, send: Send, maxConnections: number) {
    this.#open = open;
    this.#send = send;
    this.#maxConnections = maxConnections;
  }

  async run<T>(work: (send: TransactionConnection['send']) => Promise<T>): Promise<T> {
    const connection = await this.#take();
    try {
      await connection.send('begin');
      const result = await work((text, parameters) => connection.send(text, parameters));
      await connection.send('commit');
      return result;
    } catch (error) {
      // A connection that cannot be rolled back is discarded, which also ends its transaction.
      if (!connection.broken) await connection.send('rollback').catch(() => connection.end());
      throw error;
    } finally {
      this.#giveBack(connection);
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#all].map((connection) => connection.end()));
  }

  async #take(): Promise<TransactionConnection> {
    for (;;) {
      const idle = this.#idle.pop();
      if (idle !== undefined && !idle.broken) return idle;
      if (idle !== undefined) this.#discard(idle);
      else if (this.#all.size < this.#maxConnections) {
        const connection = new TransactionConnection(this.#open, this.#send);
        this.#all.add(connection);
        return connection;
      } else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  #giveBack(connection: TransactionConnection): void {
    if (connection.broken) this.#discard(connection);
    else this.#idle.push(connection);
    this.#waiting.shift()?.();
  }

  #discard(connection: TransactionConnection): void {
    this.#all.delete(connection);
    void connection.end();
  }
}
