/** `examples/backend` as a stranger runs it: with the packed client, as ES modules and as CommonJS, on a real Kiln. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { z } from 'zod';
import { CHECKOUT } from '../../config/checkout.ts';
import { INSTALL_MS, installPackedClient } from '../support/gateway/packed-client.ts';
import { type Harness, startHarness } from '../support/workers/kiln-harness.ts';

const PREFIX = 'teams/orders';
const run = promisify(execFile);
const eventSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('stage'), cursor: z.string(), move: z.object({ to: z.string() }) }),
  z.object({ kind: z.literal('log'), cursor: z.string(), entry: z.object({ message: z.string() }) }),
  z.object({ kind: z.literal('end'), snapshot: z.object({ state: z.object({ stage: z.string() }) }) }),
]);
type Event = z.infer<typeof eventSchema>;

let kiln: Harness;
let project: string;

beforeAll(async () => {
  [kiln, project] = await Promise.all([startHarness({ storePrefix: PREFIX }), installPackedClient({ peers: true })]);
}, INSTALL_MS);
afterAll(async () => {
  await kiln.close();
  await rm(project, { recursive: true, force: true });
});

/** Compiles the example in a folder of the project. @returns the path of its program */
async function buildExample(type: 'module' | 'commonjs'): Promise<string> {
  const folder = join(project, type);
  await mkdir(folder);
  const example = join(CHECKOUT, 'examples', 'backend');
  for (const name of ['src', 'tsconfig.json']) await cp(join(example, name), join(folder, name), { recursive: true });
  await writeFile(join(folder, 'package.json'), JSON.stringify({ type }));
  const modules = join(CHECKOUT, 'node_modules');
  const tsc = [join(modules, 'typescript', 'bin', 'tsc'), '-p', folder, '--typeRoots', join(modules, '@types')];
  await run(process.execPath, tsc).catch(({ stdout }: { stdout: string }) => {
    throw new Error(stdout);
  });
  return join(folder, 'dist', 'main.js');
}

async function startBackend(program: string): Promise<{ child: ChildProcess; url: string }> {
  const s3 = inject('s3');
  const child = spawn(process.execPath, [program], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      PORT: '0',
      TEMPORAL_ADDRESS: inject('temporalAddress'),
      TEMPORAL_NAMESPACE: kiln.namespace,
      KILN_S3_ENDPOINT: s3.endpoint,
      KILN_S3_BUCKET: kiln.store.bucket,
      KILN_S3_PREFIX: PREFIX,
      KILN_S3_ACCESS_KEY: s3.accessKeyId,
      KILN_S3_SECRET_KEY: s3.secretAccessKey,
    },
  });
  const told = z.object({ listening: z.object({ port: z.int() }) });
  for await (const line of createInterface({ input: child.stdout })) {
    return { child, url: `http://127.0.0.1:${told.parse(JSON.parse(line)).listening.port}/orders` };
  }
  throw new Error('the example ended before it listened');
}

async function call(url: string, method = 'GET'): Promise<{ status: number; body: unknown }> {
  const reply = await fetch(url, { method });
  return { status: reply.status, body: await reply.json() };
}

async function* eventsOf(url: string): AsyncGenerator<Event> {
  const reply = await fetch(url);
  let text = '';
  for await (const piece of (reply.body ?? new ReadableStream()).pipeThrough(new TextDecoderStream())) {
    const lines = (text + piece).split('\n');
    text = lines.pop() ?? '';
    for (const line of lines) yield eventSchema.parse(JSON.parse(line));
  }
}

describe.each([
  ['ES modules', 'module'],
  ['CommonJS', 'commonjs'],
] as const)('the backend of the examples, built as %s', (_, type) => {
  let backend: { child: ChildProcess; url: string };
  const order = (name: string) => `${backend.url}/${type}-${name}`;

  beforeAll(async () => {
    backend = await startBackend(await buildExample(type));
  });
  afterAll(() => backend.child.kill('SIGKILL'));

  it('starts an order, follows it, stops it and reads its result', async () => {
    const url = order('1');
    expect(await call(`${url}?service=plain`, 'PUT')).toMatchObject({ status: 201, body: { done: false } });
    const seen: Event[] = [];
    for await (const event of eventsOf(`${url}/events`)) {
      seen.push(event);
      if (event.kind === 'log' && event.entry.message.startsWith('plain listens on')) break;
    }
    expect((await call(`${url}?service=plain`, 'PUT')).status).toBe(200);
    expect(await call(`${url}?service=exits`, 'PUT')).toMatchObject({ status: 409, body: { code: 'CONFLICT' } });
    await expect.poll(async () => (await call(url)).body).toMatchObject({ stage: 'running', url: /^http/ });
    const stopped = { status: 200, body: { stage: 'stopped', done: true } };
    expect(await call(`${url}/stop`, 'POST')).toMatchObject(stopped);
    expect(await call(url)).toMatchObject(stopped);
    // A client that comes back later continues after the last event that it has seen.
    const last = seen.findLast((event) => event.kind !== 'end');
    for await (const event of eventsOf(`${url}/events?after=${last?.cursor}`)) seen.push(event);
    const stages = seen.flatMap((event) => (event.kind === 'stage' ? [event.move.to] : []));
    expect(stages).toEqual(['validate', 'build', 'deploy', 'running', 'stopped']);
    expect(seen.filter((event) => event.kind === 'end')).toHaveLength(1);
    expect(seen.at(-1)).toMatchObject({ kind: 'end', snapshot: { state: { stage: 'stopped' } } });
  });

  it('tells why an order has failed, and answers what is wrong by its code', async () => {
    const url = order('2');
    await call(`${url}?service=exits`, 'PUT');
    const events: Event[] = [];
    for await (const event of eventsOf(`${url}/events`)) events.push(event);
    expect(events.at(-1)).toMatchObject({ kind: 'end', snapshot: { state: { stage: 'failed' } } });
    expect((await call(url)).body).toMatchObject({ stage: 'failed', done: true, error: { code: 'SERVICE_EXITED' } });
    expect(await call(order('none'))).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } });
    expect(await call(`${order('none')}/events`)).toMatchObject({ status: 404 });
    expect(await call(`${order('UPPER')}?service=plain`, 'PUT')).toMatchObject({ status: 400 });
  });

  it('ends by itself when it is asked to', async () => {
    const ended = once(backend.child, 'exit');
    backend.child.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
  });
});
