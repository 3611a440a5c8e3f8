import { createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import * as grpc from '@grpc/grpc-js';
import { AdminService, WorkflowService } from '@perdure/proto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { startRequest } from '../support/raw-worker.js';

describe('HTTP and the standard services', () => {
  let perdure: TestPerdure;
  let baseUrl: string;
  beforeAll(async () => {
    perdure = await startPerdure();
    baseUrl = `http://${perdure.server.httpAddress}`;
  });
  afterAll(() => perdure.stop());

  const post = async (method: string, body: string) => {
    const response = await fetch(`${baseUrl}/perdure.v1.${method}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  };

  it('plain JSON over HTTP/1.1 works', async () => {
    const started = await post('WorkflowService/StartWorkflow', JSON.stringify({ workflowType: 'w', taskQueue: 'q' }));
    expect(started).toMatchObject({ status: 200, body: { created: true } });
    const got = await post('WorkflowService/GetRun', JSON.stringify({ runId: started.body.runId }));
    expect(got.body).toMatchObject({ run: { status: 'RUN_STATUS_PENDING' } });
  });

  it('errors have the same code, reason and fields', async () => {
    const bad = await post('WorkflowService/StartWorkflow', '{}');
    expect(bad.status).toBe(400);
    expect(bad.body.code).toBe('invalid_argument');
    expect(JSON.stringify(bad.body.details)).toContain('INVALID_FIELD');
    expect((await post('WorkflowService/GetRun', '{"workflowId":"none"}')).status).toBe(404);
    for (const body of [
      '{',
      '[]',
      '{"noSuchField":1}',
      `${'['.repeat(100_000)}`,
      '{"runId":"\\ud800"}',
      '{"workflowId":"\\ud800"}',
    ]) {
      const { status, body: answer } = await post('WorkflowService/GetRun', body);
      expect([status, answer.code]).toEqual([400, 'invalid_argument']);
    }
  });

  it.each([
    ['Connect over HTTP/1.1', () => createConnectTransport({ baseUrl, httpVersion: '1.1' })],
    ['Connect over HTTP/2', () => createConnectTransport({ baseUrl, httpVersion: '2' })],
    ['gRPC-Web over HTTP/1.1', () => createGrpcWebTransport({ baseUrl, httpVersion: '1.1' })],
    ['gRPC over HTTP/2', () => createGrpcTransport({ baseUrl })],
  ])('%s works, streams included', async (_, transport) => {
    const client = createClient(WorkflowService, transport());
    const { runId } = await client.startWorkflow(startRequest());
    await client.terminateRun({ runId });
    const statuses: (number | undefined)[] = [];
    for await (const { run } of client.watchRun({ runId })) statuses.push(run?.status);
    expect(statuses).toEqual([9]);
  });

  it('a message beyond the limit and an unknown path are refused', async () => {
    const data = Buffer.alloc(5 * 1024 * 1024).toString('base64');
    const huge = await post(
      'WorkflowService/StartWorkflow',
      JSON.stringify({ workflowType: 'w', taskQueue: 'q', input: { data } }),
    );
    expect(huge.body.code).toBe('resource_exhausted');
    expect((await fetch(`${baseUrl}/nothing`)).status).toBe(404);
    expect(
      (await createClient(AdminService, createConnectTransport({ baseUrl, httpVersion: '1.1' })).getServerInfo({}))
        .version,
    ).not.toBe('');
  });

  const rawCall = (path: string, request: Buffer) =>
    new Promise<Buffer>((resolve, reject) => {
      const client = new grpc.Client(perdure.server.grpcAddress, grpc.credentials.createInsecure());
      client.makeUnaryRequest(
        path,
        (bytes: Buffer) => bytes,
        (bytes) => bytes,
        request,
        (error, answer) => {
          client.close();
          if (error === null && answer !== undefined) resolve(answer);
          else reject(error);
        },
      );
    });

  it('the health service says SERVING', async () => {
    // HealthCheckResponse { status: SERVING = 1 }
    expect(await rawCall('/grpc.health.v1.Health/Check', Buffer.alloc(0))).toEqual(Buffer.from([0x08, 0x01]));
  });

  it('reflection lists the services', async () => {
    const client = new grpc.Client(perdure.server.grpcAddress, grpc.credentials.createInsecure());
    const listServices = Buffer.from([0x3a, 0x00]);
    const answer = await new Promise<string>((resolve, reject) => {
      const call = client.makeBidiStreamRequest(
        '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
        (bytes: Buffer) => bytes,
        (bytes) => bytes,
        new grpc.Metadata(),
      );
      call.on('data', (bytes: Buffer) => resolve(bytes.toString('latin1')));
      call.on('error', reject);
      call.write(listServices);
      call.end();
    });
    client.close();
    for (const name of ['WorkflowService', 'WorkerService', 'AdminService'])
      expect(answer).toContain(`perdure.v1.${name}`);
  });
});
