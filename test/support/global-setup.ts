import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbeddedPostgres } from '@perdure/embedded-postgres';
import { migrate } from '@perdure/store';
import postgres from 'postgres';
import type { TestProject } from 'vitest/node';
import { urlOf } from './database-url.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** Connection string of a database with the right to create others. */
    adminUrl: string;
    /** A migrated database without data, to copy. */
    templateDatabase: string;
  }
}

interface Instance {
  readonly url: string;
  stop(): Promise<unknown>;
}

/** One PostgreSQL for all tests: DATABASE_URL, a container when PERDURE_TEST_DB=docker, or the embedded one. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const instance = await startInstance();
  const templateDatabase = `perdure_template_${process.pid}`;
  const admin = postgres(instance.url, { max: 1, onnotice: () => undefined });
  await admin.unsafe(`drop database if exists ${templateDatabase}`);
  await admin.unsafe(`create database ${templateDatabase}`);
  await migrate({ url: urlOf(instance.url, templateDatabase) });
  project.provide('adminUrl', instance.url);
  project.provide('templateDatabase', templateDatabase);
  return async () => {
    await admin.unsafe(`drop database if exists ${templateDatabase} with (force)`);
    await admin.end();
    await instance.stop();
  };
}

async function startInstance(): Promise<Instance> {
  const given = process.env.DATABASE_URL;
  if (given !== undefined && given !== '') return { url: given, stop: async () => undefined };
  if (process.env.PERDURE_TEST_DB === 'docker') return startContainer();
  const folder = mkdtempSync(join(tmpdir(), 'perdure-test-'));
  const embedded = await startEmbeddedPostgres({ folder, settings: { max_connections: '200' } });
  return {
    url: embedded.url,
    async stop() {
      await embedded.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function startContainer(): Promise<Instance> {
  // Takes half a second to load, and is seldom wanted.
  const { GenericContainer, Wait } = await import('testcontainers');
  const container = await new GenericContainer(process.env.PERDURE_TEST_IMAGE ?? 'postgres:18-alpine')
    .withEnvironment({ POSTGRES_PASSWORD: 'perdure' })
    .withCommand(['postgres', '-c', 'max_connections=200'])
    .withExposedPorts(5432)
    .withWaitStrategy(Wait.forLogMessage(/ready to accept connections/, 2))
    .start();
  const url = `postgres://postgres:perdure@${container.getHost()}:${container.getMappedPort(5432)}/postgres`;
  return { url, stop: () => container.stop() };
}
