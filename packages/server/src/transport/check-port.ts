import { createServer } from 'node:net';

/** A port that is to be listened on belongs to another process. */
export class PortTakenError extends Error {
  override readonly name = 'PortTakenError';
  readonly port: number;

  constructor(host: string, port: number, options?: ErrorOptions) {
    super(`Port ${port} is taken on ${host}. Stop what listens there, or choose another port.`, options);
    this.port = port;
  }
}

/**
 * Looks whether a port can be listened on before anything else is started: a mistake is told at once and in one sentence.
 * Another process may still be faster; {@link portTaken} tells that.
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

/** The same error, or what it means when the port is taken. gRPC's library gives the system's error as a text only. */
export function portTaken(host: string, port: number, error: unknown): unknown {
  const isTaken = error instanceof Error && error.message.includes('EADDRINUSE');
  return isTaken ? new PortTakenError(host, port, { cause: error }) : error;
}
