import { createServer } from 'node:net';

const TRIES = 100;

/** @returns the port itself when it is free on 127.0.0.1, else the next free one after it */
export async function freePort(preferred: number): Promise<number> {
  for (let port = preferred; port < preferred + TRIES && port < 65_536; port++) if (await isFree(port)) return port;
  throw new Error(`No port from ${preferred} to ${preferred + TRIES - 1} is free.`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}
