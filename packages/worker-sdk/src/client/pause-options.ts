import { refuseUnknownKeys } from '../options.js';
import { SENDER } from './sender.js';

/** Options of a pause. */
export interface PauseOptions {
  /** Why, for people; at most 1,024 bytes. */
  readonly reason?: string;
  /** Who, for people; at most 255 bytes; default `<host>:<pid>`. */
  readonly actor?: string;
}

/** @throws {TypeError} naming the option that is wrong */
export function pauseBy(options: PauseOptions): { readonly reason: string; readonly actor: string } {
  refuseUnknownKeys('A pause', options, ['reason', 'actor']);
  return { reason: options.reason ?? '', actor: options.actor ?? SENDER };
}

/** @throws {TypeError} naming the option that is wrong */
export function resumeBy(options: Pick<PauseOptions, 'actor'>): { readonly actor: string } {
  refuseUnknownKeys('A resume', options, ['actor']);
  return { actor: options.actor ?? SENDER };
}
