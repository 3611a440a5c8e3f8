import { refuseUnknownKeys } from '../options.js';
import { SENDER } from './sender.js';

/** Options of a pause. */
export interface PauseOptions {
  /** Why, for people; at most 1,024 bytes. */
  readonly reason?: string;
  /** Who, for people; at most 255 bytes; default `<host>:<pid>`. */
  readonly by?: string;
}

/** @throws {TypeError} naming the option that is wrong */
export function pauseBy(options: PauseOptions): { readonly reason: string; readonly pausedBy: string } {
  refuseUnknownKeys('A pause', options, ['reason', 'by']);
  return { reason: options.reason ?? '', pausedBy: options.by ?? SENDER };
}

/** @throws {TypeError} naming the option that is wrong */
export function resumeBy(options: Pick<PauseOptions, 'by'>): { readonly resumedBy: string } {
  refuseUnknownKeys('A resume', options, ['by']);
  return { resumedBy: options.by ?? SENDER };
}
