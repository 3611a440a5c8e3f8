import { createServer } from 'node:net';

const TRIES = 100;
const DEFAULT_GRPC_PORT = 7300;
const DEFAULT_HTTP_PORT = 7301;

export interface Ports {
  readonly grpcPort: number;
  readonly httpPort: number;
  /** Names default ports that were taken. */
  readonly notes: readonly string[];
}

/** Ports that were given are used as they are; the others are the defaults, or the next free ones, never twice the same. */
export async function choosePorts(given: { readonly grpcPort?: number; readonly httpPort?: number }): Promise<Ports> {
  const notes: string[] = [];
  const choose = async (what: string, preferred: number, except: number | undefined) => {
    const port = await nextFreePort(preferred, except);
    if (port !== preferred && except !== preferred) notes.push(`Port ${preferred} is taken; ${what} uses ${port}.`);
    return port;
  };
  const grpcPort = given.grpcPort ?? (await choose('gRPC', DEFAULT_GRPC_PORT, given.httpPort));
  const httpPort = given.httpPort ?? (await choose('HTTP', DEFAULT_HTTP_PORT, grpcPort));
  return { grpcPort, httpPort, notes };
}

async function nextFreePort(preferred: number, except: number | undefined): Promise<number> {
  for (let port = preferred; port < preferred + TRIES && port < 65_536; port++) {
    if (port !== except && (await isFree(port))) return port;
  }
  throw new Error(`No port from ${preferred} to ${preferred + TRIES - 1} is free.`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}
