/** Python, hooks and egress in real guests, and everything that the examples promise. */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { listLogWriters, readLogEntries } from '../../store/logs/log-chunks.ts';
import { realRegistries, SERVICES } from '../support/workers/harness-workers.ts';
import { type Harness, startHarness } from '../support/workers/kiln-harness.ts';

const EXAMPLES = fileURLToPath(new URL('../../examples', import.meta.url));
const STOP = { waitMs: 60_000 };
const outcomeSchema = z.looseObject({ ok: z.boolean() });

describe('services in real guests', () => {
  let kiln: Harness;
  let projectRoot: string;
  let registry: string;
  beforeAll(async () => {
    projectRoot = await mkdtemp(join(tmpdir(), 'kiln-languages-'));
    await cp(EXAMPLES, projectRoot, { recursive: true });
    await cp(join(SERVICES, 'egress-probe'), join(projectRoot, 'egress-allowed'), { recursive: true });
    const registries = await realRegistries();
    registry = registries.endpoints.find((entry) => entry.endsWith(':443')) ?? '';
    // On some machines the registries use a CA of their own.
    await writeFile(join(projectRoot, 'egress-allowed', 'ca.pem'), registries.caBundlePem ?? '');
    const allow = [registry];
    await writeFile(join(projectRoot, 'egress-allowed', 'kiln.json'), JSON.stringify({ egress: { allow } }));
    // Without any package there is nothing to build: the service starts at once and cannot import its package.
    await cp(join(EXAMPLES, 'hello-python', 'main.py'), join(projectRoot, 'undeclared', 'main.py'));
    await writeFile(join(projectRoot, 'undeclared', 'requirements.txt'), '# bottle was forgotten\n');
    await cp(join(EXAMPLES, 'hello-python'), join(projectRoot, 'conflict'), { recursive: true });
    const requirements = await readFile(join(EXAMPLES, 'hello-python', 'requirements.txt'), 'utf8');
    await writeFile(join(projectRoot, 'conflict', 'requirements.txt'), requirements.replace(/sha256:\w/g, 'sha256:0'));
    kiln = await startHarness({
      guests: 'qemu',
      projectRoot,
      policies: { placement: {}, host: {}, supervise: {}, leave: {} },
    });
  });
  afterAll(async () => {
    await kiln.close();
    await rm(projectRoot, { recursive: true, force: true });
  });

  it('hello-python: pip builds it in a VM, its package works in another; the second time the cache has it', async () => {
    await kiln.workloads.create({ servicePath: 'hello-python', env: { GREETING: 'hi' } }, 'python-1');
    const state = await kiln.untilStage('python-1', 'running', 'failed');
    expect(state).toMatchObject({ stage: 'running', image: { name: 'python' } });
    const answer: unknown = await (await fetch(state.vm?.url ?? '')).json();
    expect(answer).toMatchObject({ service: 'hello-python', message: 'hi', hostname: 'python-1' });
    expect((await kiln.workloads.stop('python-1', STOP)).settled).toBe(true);
    const log = (await logOf('python-1')).join('\n');
    expect(log).toMatch(
      /\$ \/usr\/bin\/python3 -m pip .*--require-hashes.*Successfully installed bottle-.*pip install took/s,
    );

    await kiln.workloads.create({ servicePath: 'hello-python', env: { GREETING: 'hi' } }, 'python-2');
    const again = await kiln.untilStage('python-2', 'running', 'failed');
    expect((await fetch(new URL('/healthz', again.vm?.url))).status).toBe(200);
    expect((await kiln.workloads.stop('python-2', STOP)).settled).toBe(true);
    expect((await logOf('python-2')).join('\n')).toContain('is in the cache');
    expect(await kiln.left()).toEqual([]);
  });

  it('a package that does not fit its hash fails the build, with what pip says', async () => {
    await kiln.workloads.create({ servicePath: 'conflict' }, 'conflict');
    const { failure } = await kiln.untilStage('conflict', 'running', 'failed');
    expect(failure).toMatchObject({
      stage: 'build',
      code: 'BUILD_FAILED',
      stack: expect.stringContaining('DO NOT MATCH'),
    });
    expect(await kiln.left()).toEqual([]);
  });

  it('a Python package that nobody declared is DEPENDENCY_UNDECLARED', async () => {
    await kiln.workloads.create({ servicePath: 'undeclared' }, 'undeclared');
    const { failure } = await kiln.untilStage('undeclared', 'running', 'failed');
    expect(failure).toMatchObject({ stage: 'deploy', code: 'DEPENDENCY_UNDECLARED' });
    expect(failure?.message).toContain('bottle');
    expect(failure?.stack).toContain('ModuleNotFoundError');
    expect(await kiln.left()).toEqual([]);
  });

  it('crash-on-request: failed SERVICE_EXITED with exit code and stack', async () => {
    await kiln.workloads.create({ servicePath: 'crash-on-request' }, 'crash');
    const { vm } = await kiln.untilStage('crash', 'running', 'failed');
    expect(await (await fetch(vm?.url ?? '')).text()).toBe('ok\n');
    await fetch(new URL('/crash', vm?.url)).catch(() => undefined);
    const state = await kiln.untilStage('crash', 'failed');
    expect(state).toMatchObject({ exit: { code: 7, reason: 'exited' }, failure: { code: 'SERVICE_EXITED' } });
    expect(state.failure?.stack).toContain('Error: crashed on request');
    expect(await kiln.left()).toEqual([]);
  });

  it('failing-build: failed BUILD_FAILED with the last lines of its build', async () => {
    await kiln.workloads.create({ servicePath: 'failing-build' }, 'failing-build');
    const { failure } = await kiln.untilStage('failing-build', 'failed');
    expect(failure).toMatchObject({ stage: 'build', code: 'BUILD_FAILED' });
    expect(failure?.stack).toContain("src/server.js:3:1 error: Cannot resolve './routes.js'");
    expect(await kiln.left()).toEqual([]);
  });

  it('a service reaches the names its kiln.json allows, and no others', async () => {
    await kiln.workloads.create(
      { servicePath: 'egress-allowed', env: { NODE_EXTRA_CA_CERTS: '/workspace/app/ca.pem' } },
      'egress-allowed',
    );
    const { vm } = await kiln.untilStage('egress-allowed', 'running', 'failed');
    const ask = async (path: string) => outcomeSchema.parse(await (await fetch(new URL(path, vm?.url))).json());
    const [name = ''] = registry.split(':');
    expect(await ask(`/probe?url=https://${name}/is-number`)).toMatchObject({ ok: true, status: 200 });
    for (const path of ['https://example.com/', `http://${name}/`].map((url) => `/probe?url=${url}`)) {
      expect(await ask(path), path).toMatchObject({ ok: false });
    }
    expect((await kiln.workloads.stop('egress-allowed', STOP)).settled).toBe(true);
    const log = await logOf('egress-allowed');
    expect(log.filter((line) => /example\.com:443 refused: not on the allow-list/.test(line))).toHaveLength(1);
    expect(log.some((line) => line.includes(`connection to ${name}:443`))).toBe(false);
    expect(await kiln.left()).toEqual([]);
  });

  it('left only lawful histories that replay', async () => {
    expect((await kiln.judge()).length).toBeGreaterThan(5);
  });

  async function logOf(workloadId: string): Promise<string[]> {
    const messages: string[] = [];
    for (const writer of await listLogWriters(kiln.store, workloadId)) {
      const entries = await readLogEntries(kiln.store, writer, { after: -1, limit: 10_000 });
      messages.push(...entries.map(({ message }) => message));
    }
    return messages;
  }
});
