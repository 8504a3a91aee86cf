/** The client as others get it: built, packed, installed into an empty project, imported from plain JavaScript. */
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { ROOT } from './repository-files.ts';

const run = promisify(execFile);
const INSTALL_MS = 300_000;
let project: string;

const TYPES = `
import { createKilnClient, isKilnError, type WorkloadView } from 'kiln-client/http';
import { createWorkloadClient, type WorkloadClient } from 'kiln-client/temporal';
const client = createKilnClient({ apiUrl: 'http://127.0.0.1', token: 't' });
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
declare const direct: WorkloadClient;
const pid: number | undefined = (await direct.get('a')).state.vm?.pid;
// @ts-expect-error an id is text
direct.get(1);
export { isKilnError, pid, ready, stage, wrong };
`;

const PLAIN = `
import { createKilnClient, isKilnError, STAGES } from 'kiln-client/http';
import { createWorkloadClient } from 'kiln-client/temporal';
const client = createKilnClient({ apiUrl: process.argv[2], token: 'given' });
const problem = await client.getWorkload({ params: { id: 'none' } }).catch((error) => error);
console.log(JSON.stringify({
  health: await client.healthz(),
  problem: [isKilnError(problem, 'NOT_FOUND'), problem.message],
  stages: STAGES.length,
  direct: typeof createWorkloadClient,
}));
`;

beforeAll(async () => {
  await run(process.execPath, ['scripts/build-client.mjs'], { cwd: ROOT });
  project = await mkdtemp(join(tmpdir(), 'kiln-client-test-'));
  // The folder is packed from a copy: what else runs in the checkout may build it again at any time.
  const built = join(project, 'built');
  await cp(join(ROOT, 'dist', 'client'), built, { recursive: true });
  await run('npm', ['pack', '--silent', '--pack-destination', project], { cwd: built });
  const tarball = (await readdir(project)).find((name) => name.endsWith('.tgz')) ?? '';
  const manifest = z.object({ peerDependencies: z.record(z.string(), z.string()) });
  const { peerDependencies } = manifest.parse(JSON.parse(await readFile(join(built, 'package.json'), 'utf8')));
  await writeFile(join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true, type: 'module' }));
  const packages = [
    `./${tarball}`,
    ...Object.entries(peerDependencies).map(([name, range]) => `${name}@${range.slice(1)}`),
  ];
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', ...packages], { cwd: project });
}, INSTALL_MS);
afterAll(() => rm(project, { recursive: true, force: true }));

it('holds JavaScript and types only', async () => {
  const files = await readdir(join(project, 'node_modules', 'kiln-client'), { recursive: true, withFileTypes: true });
  const own = files.filter((file) => file.isFile() && !file.parentPath.includes('kiln-client/node_modules'));
  expect(own.map(({ name }) => name).filter((name) => !/(\.js|\.d\.ts|^package\.json)$/.test(name))).toEqual([]);
  expect(own.length).toBeGreaterThan(10);
});

it('is imported and used from plain JavaScript', async () => {
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
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  await writeFile(join(project, 'plain.mjs'), PLAIN);
  const { stdout } = await run(process.execPath, ['plain.mjs', `http://127.0.0.1:${port}`], { cwd: project });
  server.close();
  expect(JSON.parse(stdout)).toEqual({
    health: { status: 'ok' },
    problem: [true, 'no such workload'],
    stages: 7,
    direct: 'function',
  });
});

it('has types that hold, and that refuse what is wrong', async () => {
  await writeFile(join(project, 'types.ts'), TYPES);
  const options = { strict: true, noEmit: true, module: 'nodenext', target: 'es2024', skipLibCheck: true, types: [] };
  await writeFile(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files: ['types.ts'] }));
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const { stdout } = await run(process.execPath, [tsc, '-p', project], { cwd: project }).catch(
    (error: { stdout: string }) => error,
  );
  expect(stdout).toBe('');
});
