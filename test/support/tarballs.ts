import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

export interface Finished {
  readonly exitCode: number | null;
  readonly output: string;
}

/** Runs a program to its end. */
export function execute(
  program: string,
  args: readonly string[],
  options: { readonly cwd: string; readonly env?: Readonly<Record<string, string>>; readonly timeoutMs?: number },
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: { PATH: process.env.PATH, HOME: process.env.HOME, NO_COLOR: '1', ...options.env },
      timeout: options.timeoutMs ?? 100_000,
      killSignal: 'SIGKILL',
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        output += chunk.toString();
      });
    }
    child.once('error', reject);
    child.once('close', (exitCode) => resolve({ exitCode, output }));
  });
}

/** The same; anything but exit code 0 is an error with what the program said. */
export async function mustExecute(...given: Parameters<typeof execute>): Promise<string> {
  const { exitCode, output } = await execute(...given);
  if (exitCode !== 0) throw new Error(`${given[0]} ${given[1].join(' ')} ended with ${exitCode}:\n${output}`);
  return output;
}

/**
 * Packs every package as it would be published.
 *
 * @returns the tarball of each package, by the package's name
 */
export async function packAll(folder: string): Promise<ReadonlyMap<string, string>> {
  mkdirSync(folder, { recursive: true });
  const args = ['--recursive', '--filter', './packages/*', 'pack', '--pack-destination', folder];
  const pnpm = process.env.npm_execpath?.includes('pnpm') ? [process.env.npm_execpath] : undefined;
  if (pnpm !== undefined) await mustExecute(process.execPath, [...pnpm, ...args], { cwd: ROOT });
  else await mustExecute('npx', ['--yes', 'pnpm@10', ...args], { cwd: ROOT });
  const tarballs = readdirSync(folder).map((file): [string, string] => {
    const plain = file.replace(/-\d+\.\d+\.\d+.*\.tgz$/, '');
    const name = /^(perdure|create-perdure)$/.test(plain) ? plain : plain.replace(/^perdure-/, '@perdure/');
    return [name, join(folder, file)];
  });
  return new Map(tarballs);
}
