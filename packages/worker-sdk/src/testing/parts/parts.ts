/**
 * Loads the parts that a test environment runs. They are optional peer dependencies: a process that contains only workers or clients
 * needs none of them.
 */
import { createRequire } from 'node:module';

const PACKAGES = ['config', 'embedded-postgres', 'reaper', 'server', 'store'] as const;

export const loadServer = () => loadPart('@perdure/server', () => import('@perdure/server'));
export const loadReaper = () => loadPart('@perdure/reaper', () => import('@perdure/reaper'));
export const loadStore = () => loadPart('@perdure/store', () => import('@perdure/store'));
export const loadConfigPart = () => loadPart('@perdure/config', () => import('@perdure/config'));
export const loadEmbeddedPostgres = () =>
  loadPart('@perdure/embedded-postgres', () => import('@perdure/embedded-postgres'));

/** Perdure's packages have one version. */
export const VERSION = (createRequire(import.meta.url)('../../../package.json') as { version: string }).version;

/** @throws {Error} naming what to install, when the part is missing */
async function loadPart<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'ERR_MODULE_NOT_FOUND' || !message.includes(`'${name}'`)) throw error;
    const all = PACKAGES.map((part) => `@perdure/${part}@${VERSION}`).join(' ');
    throw new Error(
      `The testing kit needs the package ${name}, an optional dependency that is not installed. ` +
        `Install it for development: npm install --save-dev ${all}`,
    );
  }
}
