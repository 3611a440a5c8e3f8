import { hostname } from 'node:os';

/** Who sends a message when nobody says it: this process, for people. */
export const SENDER = `${hostname()}:${process.pid}`.slice(0, 80);
