/** The client as users get it: built, packed, installed into an empty project, used from ES modules and CommonJS. */
import { execFile } from 'node:child_process';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { INSTALL_MS, installPackedClient } from '../support/gateway/packed-client.ts';
import { ROOT, textOf } from './repository-files.ts';

const run = promisify(execFile);
let project: string;
let without: string;

const TYPES = `
import { createKilnClient, isKilnError, type WorkloadView } from 'kiln-client/http';
import { createWorkloadClient, type WorkloadClient } from 'kiln-client/temporal';
import { connectKiln, type ConnectKilnOptions, KilnError } from 'kiln-client';
import { openKilnStore } from 'kiln-client/store';
declare const client: ReturnType<typeof createKilnClient>;
declare const options: ConnectKilnOptions;
declare const direct: WorkloadClient;
export async function main(): Promise<unknown> {
const view: WorkloadView = await client.getWorkload({ params: { id: 'a' } });
const stage: 'pending' | 'validate' | 'build' | 'deploy' | 'running' | 'stopped' | 'failed' = view.stage;
const ready: boolean = (await client.readyz()).ready;
for await (const event of client.streamWorkloadLogs('a')) if (event.kind === 'log') event.entry.message.slice(1);
// @ts-expect-error a workload has no such stage
const wrong: 'paused' = view.stage;
// @ts-expect-error the id is not given
client.getWorkload();
// @ts-expect-error a body is needed
client.createWorkload({});
// @ts-expect-error a path is text
client.createWorkload({ body: { id: 'a', servicePath: 1 } });
// @ts-expect-error a client is needed
createWorkloadClient({});
const pid: number | undefined = (await direct.get('a')).state.vm?.pid;
// @ts-expect-error an id is text
direct.get(1);
const kiln = await connectKiln(options);
for await (const event of kiln.workloads.follow('a')) if (event.kind === 'stage') event.move.to.slice(1);
// @ts-expect-error no store is named
await connectKiln({ temporal: { address: 'a' } });
// @ts-expect-error a bucket is needed
openKilnStore({ endpoint: 'http://127.0.0.1' });
const error: unknown = pid;
// One class, whichever entry it comes from.
const same: KilnError | undefined = isKilnError(error) ? error : undefined;
return { same, ready, stage, wrong };
}
`;

/** The same program for every way to load the package. */
const PLAIN = `
async function main() {
  const client = createKilnClient({ apiUrl: process.argv[2], token: 'given' });
  const problem = await client.getWorkload({ params: { id: 'none' } }).catch((error) => error);
  console.log(JSON.stringify({
    health: await client.healthz(),
    problem: [isKilnError(problem, 'NOT_FOUND'), problem.message],
    stages: STAGES.length,
    others: [typeof createWorkloadClient, typeof connectKiln, typeof openKilnStore],
  }));
}
main();
`;
const LOADED = {
  'kiln-client/http': 'createKilnClient, isKilnError, STAGES',
  'kiln-client/temporal': 'createWorkloadClient',
  'kiln-client/store': 'openKilnStore',
  'kiln-client': 'connectKiln',
};
const PROGRAMS = {
  'plain.mjs': Object.entries(LOADED).map(([name, names]) => `import { ${names} } from '${name}';`),
  'plain.cjs': Object.entries(LOADED).map(([name, names]) => `const { ${names} } = require('${name}');`),
};

/** Loads the package in both ways, like a program whose own packages are of both kinds. */
const BOTH = `
import { createRequire } from 'node:module';
import { isKilnError, KilnError } from 'kiln-client';
import { createKilnClient } from 'kiln-client/http';
const required = createRequire(import.meta.url)('kiln-client/http');
const problem = await createKilnClient({ apiUrl: 'http://127.0.0.1:1', token: 't' }).healthz().catch((error) => error);
console.log(JSON.stringify([required.KilnError === KilnError, required.isKilnError(problem), isKilnError(problem)]));
`;

const WITHOUT_PEERS = {
  'without.mjs': `import { connectKiln, isKilnError } from 'kiln-client';`,
  'without.cjs': `const { connectKiln, isKilnError } = require('kiln-client');`,
};
const CONNECT = `
connectKiln({ temporal: { address: '127.0.0.1:1' }, store: { endpoint: 'http://127.0.0.1:1', bucket: 'none' } }).catch(
  (error) => console.log(JSON.stringify([isKilnError(error, 'CONFIG_INVALID'), error.details.install])),
);
`;

beforeAll(async () => {
  project = await installPackedClient({ peers: true });
  without = await installPackedClient({ peers: false });
}, INSTALL_MS);
afterAll(async () => {
  for (const folder of [project, without]) await rm(folder, { recursive: true, force: true });
});

it('holds JavaScript, types and its README only', async () => {
  const files = await readdir(join(project, 'node_modules', 'kiln-client'), { recursive: true, withFileTypes: true });
  const own = files.filter((file) => file.isFile() && !file.parentPath.includes('kiln-client/node_modules'));
  expect(
    own.map(({ name }) => name).filter((name) => !/(\.m?js|\.d\.m?ts|^package\.json|^README\.md)$/.test(name)),
  ).toEqual([]);
  expect(own.length).toBeGreaterThan(10);
});

/** @returns the URL of a server that accepts one path with one token; it ends with this process */
async function answeringServer(): Promise<string> {
  const server = createServer((request, reply) => {
    const good = request.url === '/healthz' && request.headers.authorization === 'Bearer given';
    reply.setHeader('content-type', good ? 'application/json' : 'application/problem+json');
    reply.statusCode = good ? 200 : 404;
    const problem = {
      type: 'urn:test',
      title: 'Not found',
      status: 404,
      code: 'NOT_FOUND',
      detail: 'no such workload',
    };
    reply.end(JSON.stringify(good ? { status: 'ok' } : problem));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.unref();
  const address = server.address();
  return `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
}

async function outputOf(folder: string, file: string, text: string, ...argv: string[]): Promise<unknown> {
  await writeFile(join(folder, file), text);
  const { stdout, stderr } = await run(process.execPath, [file, ...argv], { cwd: folder });
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}

it.each(Object.entries(PROGRAMS))('is loaded and used from plain JavaScript: %s', async (file, loading) => {
  const answer = await outputOf(project, file, [...loading, PLAIN].join('\n'), await answeringServer());
  expect(answer).toEqual({
    health: { status: 'ok' },
    problem: [true, 'no such workload'],
    stages: 7,
    others: ['function', 'function', 'function'],
  });
});

it('is the same package for import and for require', async () => {
  expect(await outputOf(project, 'both.mjs', BOTH)).toEqual([true, true, true]);
});

it.each(Object.entries(WITHOUT_PEERS))('names the packages that are missing: %s', async (file, loading) => {
  const install = 'npm install @temporalio/client @temporalio/common @temporalio/workflow @aws-sdk/client-s3';
  expect(await outputOf(without, file, loading + CONNECT)).toEqual([true, install]);
});

const checked = new Map<string, Promise<string>>();

/** Both kinds of programs are checked at once: most of the work is to read the types of the packages. */
function typeErrors(module: string): Promise<string> {
  const found = checked.get(module) ?? checkTypes(module);
  checked.set(module, found);
  return found;
}

async function checkTypes(module: string): Promise<string> {
  const files = ['types.mts', 'types.cts'];
  for (const file of files) await writeFile(join(project, file), TYPES);
  const options = { strict: true, noEmit: true, module, target: 'es2024', skipLibCheck: true, types: [] };
  const config = join(project, `tsconfig.${module}.json`);
  await writeFile(config, JSON.stringify({ compilerOptions: options, files }));
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const { stdout } = await run(process.execPath, [tsc, '-p', config], { cwd: project }).catch(
    (error: { stdout: string }) => error,
  );
  return stdout;
}

it.each([
  ['an ES module', 'types.mts', 'nodenext'],
  ['CommonJS', 'types.cts', 'nodenext'],
  ['an ES module of older settings', 'types.mts', 'node16'],
  ['CommonJS of older settings', 'types.cts', 'node16'],
])('has types that hold for %s, and that refuse what is wrong', async (_, file, module) => {
  const other = file === 'types.mts' ? 'types.cts' : 'types.mts';
  const errors = (await typeErrors(module)).split('\n').filter((line) => !line.startsWith(other));
  expect(errors.join('\n')).toBe('');
});

it('has an example that names the versions that the package is made with', () => {
  const versions = (file: string): Record<string, string> => {
    const { dependencies, devDependencies } = JSON.parse(textOf(file));
    return { ...dependencies, ...devDependencies };
  };
  const { 'kiln-client': _, ...named } = versions('examples/backend/package.json');
  expect(versions('package.json')).toMatchObject(named);
});
