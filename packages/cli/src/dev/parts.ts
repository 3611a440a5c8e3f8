/**
 * Loads the parts that run on a server. They are optional dependencies, which workers and clients do not need, and are
 * loaded only by the commands that run them, so that the other commands start quickly.
 */
import { CliError, EXIT } from '../exit-codes.js';
import { VERSION } from '../version.js';

export const loadServer = () => loadPart('@perdure/server', () => import('@perdure/server'));
export const loadReaper = () => loadPart('@perdure/reaper', () => import('@perdure/reaper'));
export const loadStore = () => loadPart('@perdure/store', () => import('@perdure/store'));
export const loadEmbeddedPostgres = () =>
  loadPart('@perdure/embedded-postgres', () => import('@perdure/embedded-postgres'));

async function loadPart<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'ERR_MODULE_NOT_FOUND' || !message.includes(`'${name}'`)) throw error;
    throw new CliError(
      `This needs the package ${name}, an optional dependency that is not installed. ` +
        `Install it: npm install ${name}@${VERSION}`,
      EXIT.usage,
    );
  }
}
