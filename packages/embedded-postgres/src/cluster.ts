import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chownSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Account } from './account.js';
import type { Binaries } from './binaries.js';
import { EmbeddedPostgresError } from './embedded-postgres-error.js';

export const SUPERUSER = 'perdure';
export const DATABASE = 'perdure';

/**
 * Makes the data folder, once: a cluster with its own password and the database. It is made beside its place and moved there
 * when it is complete, so a kill at any moment leaves nothing half-made.
 *
 * @returns the superuser's password
 */
export function prepareCluster(folder: string, binaries: Binaries, account: Account | undefined): string {
  const dataFolder = join(folder, 'data');
  const passwordFile = join(folder, 'password');
  if (existsSync(join(dataFolder, 'PG_VERSION'))) return readFileSync(passwordFile, 'utf8').trim();

  const password = randomBytes(24).toString('base64url');
  const unfinished = join(folder, 'data.new');
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { mode: 0o700 });
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  if (account !== undefined) {
    chownSync(unfinished, account.uid, account.gid);
    chownSync(passwordFile, account.uid, account.gid);
  }
  run(binaries.initdb, account, [
    `--pgdata=${unfinished}`,
    `--username=${SUPERUSER}`,
    `--pwfile=${passwordFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C',
    '--no-instructions',
  ]);
  // Single-user mode: no port, no password, no second process.
  run(binaries.postgres, account, ['--single', '-D', unfinished, 'postgres'], `create database ${DATABASE};\n`);
  renameSync(unfinished, dataFolder);
  return password;
}

function run(program: string, account: Account | undefined, args: readonly string[], input = ''): void {
  const result = spawnSync(program, args, {
    input,
    encoding: 'utf8',
    cwd: account === undefined ? undefined : '/',
    env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' },
    ...(account === undefined ? {} : { uid: account.uid, gid: account.gid }),
  });
  if (result.error !== undefined || result.status !== 0) {
    const said = `${result.stderr ?? ''}${result.stdout ?? ''}`.trim().split('\n').slice(-8).join('\n');
    throw new EmbeddedPostgresError(
      'not_started',
      `The data folder of PostgreSQL could not be created (${program}): ${said || result.error?.message}`,
      { cause: result.error },
    );
  }
}
