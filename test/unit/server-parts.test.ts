import { type ConfigError, describeOptions, loadConfig, parseDuration } from '@perdure/config';
import { serverOptions, serverRelations } from '@perdure/server';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { failureBytes } from '../../packages/server/dist/commands/command-bytes.js';
import { Checker } from '../../packages/server/dist/rpc/decode/checker.js';
import { decodePageToken, encodePageToken } from '../../packages/server/dist/rpc/decode/page-token.js';

describe('page tokens', () => {
  it('a page token is read as it was written, and any other text is refused', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (cursor, garbage) => {
        const check = new Checker(1_000);
        const parse = (value: unknown) => (typeof value === 'string' ? value : undefined);
        expect(decodePageToken(check, 'page_token', encodePageToken(['s'], cursor), ['s'], parse)).toBe(cursor);
        check.done();
        if (garbage === '') return;
        decodePageToken(check, 'page_token', garbage, ['s'], parse);
        expect(() => check.done()).toThrow(/page_token/);
      }),
    );
  });
});

describe('the bytes of a failure', () => {
  it('are those of all that it carries, also when it is encrypted', () => {
    const inner = { type: 'Error', reason: 'APPLICATION', message: 'x'.repeat(1_000) } as const;
    const data = { data: 'x'.repeat(5_000), encoding: '' };
    expect(failureBytes({ ...inner, stack: 'x'.repeat(100), details: data })).toBe(6_100);
    expect(failureBytes({ ...inner, cause: inner, errors: [inner, { ...inner, cause: inner }] })).toBe(5_000);
    expect(failureBytes({ ...inner, sealed: data })).toBe(6_000);
  });
});

describe('configuration', () => {
  const env = { DATABASE_URL: 'postgres://x:secret@y/z' };

  it('the configuration prefers flags to environment to defaults, and is frozen', () => {
    const config = loadConfig(serverOptions, {
      env: { ...env, PERDURE_GRPC_PORT: '1', PERDURE_DRAIN: '5s' },
      flags: { grpcPort: '2' },
    });
    expect(config).toMatchObject({ grpcPort: 2, httpPort: 7301, drainMs: 5_000, host: '127.0.0.1' });
    expect(Object.isFrozen(config)).toBe(true);
  });

  it('a configuration error names every problem, the range and the value that came, but no secret', () => {
    const problems = (() => {
      try {
        loadConfig(serverOptions, { env: { PERDURE_GRPC_PORT: '70000', PERDURE_DRAIN: 'soon', PERDURE_WAKEUP: 'x' } });
      } catch (error) {
        return (error as ConfigError).problems;
      }
      return [];
    })();
    expect(problems).toHaveLength(4);
    expect(problems.join(' ')).toContain('must be between 0 and 65535; got');
    expect(() =>
      loadConfig(serverOptions, { env: { ...env, PERDURE_MAX_PAYLOAD_BYTES: '4194304' }, relations: serverRelations }),
    ).toThrow(/max-frame-bytes/);
    expect(String(problems)).not.toContain('secret');
  });

  it('durations have units', () => {
    expect(['5', '5ms', '1.5s', '2m', '1h', '1d'].map(parseDuration)).toEqual([
      5, 5, 1_500, 120_000, 3_600_000, 86_400_000,
    ]);
    expect(['', 'x', '-1s', '1 week'].map(parseDuration)).toEqual([undefined, undefined, undefined, undefined]);
  });

  it('describes every option with unit, default and range', () => {
    const table = describeOptions(serverOptions);
    for (const { flag } of Object.values(serverOptions)) expect(table).toContain(`--${flag}`);
  });
});
