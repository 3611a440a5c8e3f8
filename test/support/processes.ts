import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { until } from './until.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** A process of the product, with what it has said. */
export interface TestProcess {
  readonly child: ChildProcess;
  readonly output: () => string;
  /** Waits until it has said something that matches. */
  says(pattern: RegExp, patienceMs?: number): Promise<string>;
  /** @returns the exit code, or the signal that ended it */
  ended(): Promise<number | string>;
  kill(signal: NodeJS.Signals): Promise<void>;
}

/** @param program path from the root of the repository */
export function startProcess(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): TestProcess {
  const child = spawn(process.execPath, [`${ROOT}${program}`, ...args], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, NO_COLOR: '1', ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
  }
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string);
  return {
    child,
    output: () => text,
    says: (pattern, patienceMs) =>
      until(
        `${program} to say ${pattern}`,
        () => {
          const found = pattern.exec(text);
          if (found !== null) return found[1] ?? found[0];
          if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}:\n${text}`);
          return undefined;
        },
        patienceMs,
      ),
    ended: () => ended,
    async kill(signal) {
      child.kill(signal);
      await ended;
    },
  };
}

const CLI = 'packages/cli/bin/perdure.js';

/** Runs a command of the command line to its end. */
export async function perdure(args: readonly string[], env: Readonly<Record<string, string>> = {}, stdin = '') {
  const run = startProcess(CLI, args, env);
  run.child.stdin?.end(stdin);
  const exitCode = await run.ended();
  return { exitCode, output: run.output() };
}

export const startPerdureProcess = (args: readonly string[], env: Readonly<Record<string, string>> = {}): TestProcess =>
  startProcess(CLI, args, env);

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}
