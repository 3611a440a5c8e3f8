import type { DiagnoseResponse, GetServerInfoResponse } from '@perdure/proto';

/** `fail`: something does not work and needs action. `warn`: worth a look. */
export type CheckStatus = 'ok' | 'warn' | 'fail';

export interface Check {
  readonly id: string;
  readonly status: CheckStatus;
  /** A fact, and when the status is not `ok` what to do. */
  readonly text: string;
  /** The same for programs. */
  readonly facts: Readonly<Record<string, unknown>>;
}

export interface Findings {
  readonly address: string;
  readonly namespace: string;
  readonly info: GetServerInfoResponse;
  readonly diagnosis: DiagnoseResponse;
  readonly workersOnline: number;
  /** How far back failed runs were counted, in ms. */
  readonly recentMs: number;
  /** This machine's clock when `info` came. */
  readonly localMs: number;
}
