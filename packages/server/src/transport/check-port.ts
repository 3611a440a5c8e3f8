import { createServer } from 'node:net';

/** The port is in use by another process. */
export class PortTakenError extends Error {
  override readonly name = 'PortTakenError';
  readonly port: number;

  constructor(host: string, port: number, options?: ErrorOptions) {
    super(`Port ${port} is taken on ${host}. Stop what listens there, or choose another port.`, options);
    this.port = port;
  }
}

/**
 * Checks whether a port is free before anything else is started, so that a mistake is reported at once in one sentence.
 * Another process may still be faster; {@link portTaken} reports that.
 *
 * @throws {PortTakenError}
 */
export function checkPort(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (error) => reject(portTaken(host, port, error)));
    probe.listen(port, host, () => probe.close(() => resolve()));
  });
}

/** The same error, or a {@link PortTakenError} when the port is taken. gRPC's library has the system's error only as text. */
export function portTaken(host: string, port: number, error: unknown): unknown {
  const isTaken = error instanceof Error && error.message.includes('EADDRINUSE');
  return isTaken ? new PortTakenError(host, port, { cause: error }) : error;
}
