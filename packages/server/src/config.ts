import { type ConfigOf, databaseOptions, defineOptions, logOptions } from '@perdure/config';

/** Everything that can be set about a server. */
export const serverOptions = defineOptions({
  ...databaseOptions,
  host: {
    kind: 'string',
    env: 'PERDURE_HOST',
    flag: 'host',
    default: '127.0.0.1',
    description: 'Address to listen on; 0.0.0.0 for every interface',
  },
  grpcPort: {
    kind: 'integer',
    env: 'PERDURE_GRPC_PORT',
    flag: 'grpc-port',
    default: 7300,
    min: 0,
    max: 65_535,
    unit: 'port',
    description: 'Port for gRPC; 0 picks a free one',
  },
  httpPort: {
    kind: 'integer',
    env: 'PERDURE_HTTP_PORT',
    flag: 'http-port',
    default: 7301,
    min: 0,
    max: 65_535,
    unit: 'port',
    description: 'Port for Connect and gRPC-Web over HTTP/1.1 and cleartext HTTP/2; 0 picks a free one',
  },
  maxConnections: {
    kind: 'integer',
    env: 'PERDURE_MAX_CONNECTIONS',
    flag: 'max-connections',
    default: 10,
    min: 2,
    max: 1_000,
    unit: 'connections',
    description: 'Database connections at the most; two more listen for wake-ups',
  },
  queryTimeoutMs: {
    kind: 'duration',
    env: 'PERDURE_QUERY_TIMEOUT',
    flag: 'query-timeout',
    default: 30_000,
    min: 100,
    max: 600_000,
    description: 'A statement without an answer for this long counts as a broken connection',
  },
  databaseWaitMs: {
    kind: 'duration',
    env: 'PERDURE_DATABASE_WAIT',
    flag: 'database-wait',
    default: 60_000,
    min: 0,
    max: 3_600_000,
    description: 'How long to wait at the start for the database to answer and be migrated',
  },
  pollFallbackMs: {
    kind: 'duration',
    env: 'PERDURE_POLL_FALLBACK',
    flag: 'poll-fallback',
    default: 1_000,
    min: 10,
    max: 60_000,
    description: 'How often waiting polls look for work without a wake-up',
  },
  maxPayloadBytes: {
    kind: 'integer',
    env: 'PERDURE_MAX_PAYLOAD_BYTES',
    flag: 'max-payload-bytes',
    default: 2 * 1024 * 1024,
    min: 1024,
    max: 64 * 1024 * 1024,
    unit: 'bytes',
    description: 'Largest input, output or detail',
  },
  maxFrameBytes: {
    kind: 'integer',
    env: 'PERDURE_MAX_FRAME_BYTES',
    flag: 'max-frame-bytes',
    default: 4 * 1024 * 1024,
    min: 4096,
    max: 128 * 1024 * 1024,
    unit: 'bytes',
    description: 'Largest request message',
  },
  maxWaitingPolls: {
    kind: 'integer',
    env: 'PERDURE_MAX_WAITING_POLLS',
    flag: 'max-waiting-polls',
    default: 20_000,
    min: 1,
    max: 1_000_000,
    unit: 'polls',
    description: 'Long polls that may wait at once; more are refused as OVERLOADED',
  },
  maxQueuedCommands: {
    kind: 'integer',
    env: 'PERDURE_MAX_QUEUED_COMMANDS',
    flag: 'max-queued-commands',
    default: 20_000,
    min: 100,
    max: 1_000_000,
    unit: 'commands',
    description: 'Commands of one kind that may wait for the database; more are refused as OVERLOADED',
  },
  stepTimeoutGraceMs: {
    kind: 'duration',
    env: 'PERDURE_STEP_TIMEOUT_GRACE',
    flag: 'step-timeout-grace',
    default: 10_000,
    min: 0,
    max: 3_600_000,
    description: "How long after a step's timeout the server waits for its worker to report it",
  },
  drainMs: {
    kind: 'duration',
    env: 'PERDURE_DRAIN',
    flag: 'drain',
    default: 10_000,
    min: 0,
    max: 600_000,
    description: 'How long calls under way may take when the server goes down',
  },
  ...logOptions,
});

export type ServerConfig = ConfigOf<typeof serverOptions>;

/** Relations between the options; for `loadConfig`. */
export function serverRelations(config: Readonly<Record<string, unknown>>): string[] {
  return (config.maxFrameBytes as number) < (config.maxPayloadBytes as number) + 64 * 1024
    ? ['--max-frame-bytes must be at least --max-payload-bytes plus 65536, or the largest payload cannot be sent.']
    : [];
}
