import postgres from 'postgres';
import { createDialer } from './dial.js';

export interface DriverOptions {
  readonly maxConnections: number;
  readonly preparedStatements: boolean;
  /** Sent when a connection begins; a pooler may refuse names that it does not know. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly onNotify?: (channel: string, payload: string) => void;
  /** A connection has ended; later statements would use another one. */
  readonly onClose?: () => void;
}

/** Opens the driver's pool. It connects with the first statement. */
export function openDriver(url: string, options: DriverOptions): postgres.Sql {
  const settings = {
    max: options.maxConnections,
    prepare: options.preparedStatements,
    // Perdure writes array parameters as literals and has no array columns in results, so the driver needs no catalogue query.
    fetch_types: false,
    connect_timeout: 5,
    idle_timeout: 0,
    max_lifetime: null,
    backoff: (attempt: number) => Math.min(0.05 * 2 ** attempt, 2),
    onnotice: () => undefined,
    connection: options.parameters,
    socket: createDialer(),
    ...(options.onNotify === undefined ? {} : { onnotify: options.onNotify }),
    ...(options.onClose === undefined ? {} : { onclose: options.onClose }),
  };
  return postgres(url, settings as postgres.Options<Record<string, never>>);
}
