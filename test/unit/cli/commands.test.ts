import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mintId } from '../../../cli/workload/mint-id.ts';
import type { CreateWorkloadBody } from '../../../contracts/api/workload-request.ts';
import { KilnError } from '../../../domain/failures.ts';
import { WORKLOAD_ID_PATTERN } from '../../../domain/names.ts';
import { at, type CliWorld, kiln, viewAt } from '../../support/gateway/cli-fixtures.ts';

type Api = NonNullable<CliWorld['api']>;

const PENDING = viewAt([['pending', 0]]);
const RUNNING = viewAt([
  ['pending', 0],
  ['validate', 1],
  ['build', 2],
  ['deploy', 3],
  ['running', 4],
]);
const STOPPED = viewAt([
  ['pending', 0],
  ['stopped', 1],
]);
const FAILED = viewAt(
  [
    ['pending', 0],
    ['validate', 1],
    ['failed', 2],
  ],
  { failure: { code: 'MANIFEST_MISSING', message: 'services/hello has no kiln.json.', stage: 'validate' } },
);
const json = (text: string): unknown[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

describe('the command line', () => {
  it('answers --help on stdout with 0', async () => {
    const { stdout, stderr, exitCode } = await kiln(['--help']);
    for (const group of ['workload', 'session', 'deployment', 'image', 'host', 'gateway', 'dev'])
      expect(stdout).toContain(group);
    expect([stderr, exitCode]).toEqual(['', 0]);
  });

  it.each([
    [[], 'Usage: kiln'],
    [['frobnicate'], 'unknown command'],
    [['workload', 'get'], "missing required argument 'id'"],
    [['workload', 'list', '--colour'], 'unknown option'],
    [['workload', 'create'], '--service'],
    [['workload', 'create', '--service', 'a', '--port', '0x50'], 'whole number'],
    [['workload', 'create', '--service', 'a', '--port', '65536'], 'whole number'],
    [['workload', 'create', '--service', 'a', '--env', '=x'], 'NAME=VALUE'],
    [['workload', 'list', '--stage', 'runing'], 'one of pending'],
    [['workload', 'logs', 'a', '--level', 'debug'], 'one of info'],
    [['workload', 'stop', 'a', '--wait-ms', '30001'], 'whole number'],
    [['workload', 'stop', 'a', '--reason', 'x'.repeat(501)], '--reason'],
    [['image', 'build', '../etc'], 'name of an image'],
    [['gateway', 'dance'], 'unknown command'],
  ])('answers wrong usage on stderr with 2: %j', async (args, message) => {
    const { stdout, stderr, exitCode } = await kiln(args);
    expect(stderr).toContain(message);
    expect([stdout, exitCode]).toEqual(['', 2]);
  });

  it('tells code, message and fix of what failed, with 1', async () => {
    const noStack = new KilnError('NOT_FOUND', 'No running stack found. Start one with `kiln dev`.');
    expect(await kiln(['workload', 'list'], { noStack })).toEqual({
      stdout: '',
      stderr: 'kiln: NOT_FOUND: No running stack found. Start one with `kiln dev`.\n',
      exitCode: 1,
    });
    const api = { listHosts: () => Promise.reject(new KilnError('UNAUTHORIZED', 'The token is not known.')) };
    const refused = await kiln(['host', 'list', '--json'], { api });
    expect(json(refused.stderr)).toEqual([
      {
        error: { code: 'UNAUTHORIZED', message: 'The token is not known.', fix: expect.stringContaining('KILN_TOKEN') },
      },
    ]);
    expect([refused.stdout, refused.exitCode]).toEqual(['', 1]);
  });

  it('tells where it met a defect', async () => {
    const api = { listHosts: () => Promise.reject(new TypeError('undefined is no function')) };
    const { stderr, exitCode } = await kiln(['host', 'list'], { api });
    expect(stderr).toMatch(
      /^kiln: INTERNAL: undefined is no function\n {2}This is a defect .+\n {4}at .+cli\/commands/,
    );
    expect(exitCode).toBe(1);
  });
});

describe('kiln workload create', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'kiln-cli-create-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** Runs `create` with these arguments. @returns the request body that it sent */
  async function bodyOf(...args: string[]): Promise<CreateWorkloadBody | undefined> {
    let sent: CreateWorkloadBody | undefined;
    const createWorkload: Api['createWorkload'] = async ({ body }) => {
      sent = body;
      return PENDING;
    };
    const { exitCode, stderr } = await kiln(['workload', 'create', ...args], { api: { createWorkload } });
    expect(exitCode, stderr).toBe(0);
    return sent;
  }

  it('sends what the options say and nothing else', async () => {
    const envFile = join(folder, 'env');
    writeFileSync(envFile, '# a comment\nA=from file\nB="two words"\n');
    expect(
      await bodyOf(
        ...['--service', './services/hello/', '--id', 'hello-1', '--deployment', 'd-1', '--project', 'p-1'],
        ...['--env', 'A=1=2', '--env', 'C=', '--env-file', envFile, '--port', '3000', '--host-port', '8081'],
        ...['--image', 'node:latest', '--vcpus', '2', '--mem-mib', '1024', '--disk-mib', '100'],
      ),
    ).toEqual({
      id: 'hello-1',
      deploymentId: 'd-1',
      projectId: 'p-1',
      servicePath: 'services/hello',
      env: { A: '1=2', B: 'two words', C: '' },
      port: 3000,
      hostPort: 8081,
      image: 'node:latest',
      resources: { vcpus: 2, memMib: 1024, diskMib: 100 },
    });
    expect(await bodyOf('--service', 'a', '--id', 'x')).toEqual({ id: 'x', servicePath: 'a' });
  });

  it('names a workload before it asks for it', async () => {
    expect((await bodyOf('--service', 'services/Hello_World'))?.id).toMatch(/^hello-world-[a-z0-9]{8}$/);
    fc.assert(fc.property(fc.string(), (path) => WORKLOAD_ID_PATTERN.test(mintId(path))));
  });

  it('says which id makes a repetition safe where no answer came', async () => {
    const api = { createWorkload: () => Promise.reject(new KilnError('API_UNAVAILABLE', 'no answer')) };
    const { stderr, exitCode } = await kiln(['workload', 'create', '--service', 'hello'], { api });
    expect(stderr).toMatch(/--id hello-[a-z0-9]{8}/);
    expect(exitCode).toBe(1);
  });

  it.each([
    [['--service', '/etc'], '--service'],
    [['--service', '../other'], '--service'],
    [['--service', ''], '--service'],
    [['--service', 'a', '--id', 'Not An Id'], '--id'],
    [['--service', 'a', '--port', '443'], '--port'],
    [['--service', 'a', '--image', 'no de'], '--image'],
    [['--service', 'a', '--env', '1X=1'], '--env 1X'],
    [['--service', 'a', '--env-file', '/nowhere/env'], '--env-file /nowhere/env'],
  ])('refuses by the name of the option before anything is sent: %j', async (args, option) => {
    const { stdout, stderr, exitCode } = await kiln(['workload', 'create', ...args]);
    expect(stderr).toContain(option);
    expect([stdout, exitCode]).toEqual(['', 2]);
  });
});

describe('kiln workload create --wait', () => {
  const create = ['workload', 'create', '--service', 'services/hello', '--id', 'hello-1', '--wait'];
  const answering = (...views: (typeof PENDING | KilnError)[]): Api => ({
    createWorkload: async () => PENDING,
    getWorkload: async () => {
      const next = views.shift();
      if (next instanceof KilnError) throw next;
      if (next === undefined) throw new Error('asked once too often');
      return next;
    },
  });

  it('shows each stage once and ends with 0 when it runs', async () => {
    const { stdout, stderr, exitCode } = await kiln(create, { api: answering(PENDING, RUNNING) });
    expect(stdout.match(/hello-1 {2}(\w+)/g)).toEqual(
      ['pending', 'validate', 'build', 'deploy', 'running'].map((stage) => `hello-1  ${stage}`),
    );
    expect([stderr, exitCode]).toEqual(['', 0]);
  });

  it('is one document with --json', async () => {
    const { stdout, exitCode } = await kiln([...create, '--json'], { api: answering(RUNNING) });
    expect(json(stdout)).toEqual([RUNNING]);
    expect(exitCode).toBe(0);
  });

  it('ends with 1 and the failure of the workload', async () => {
    const { stdout, stderr, exitCode } = await kiln([...create, '--json'], { api: answering(FAILED) });
    expect(json(stdout)).toEqual([FAILED]);
    expect(json(stderr)).toEqual([
      { note: expect.stringContaining('kiln workload logs hello-1') },
      { error: { code: 'MANIFEST_MISSING', message: 'services/hello has no kiln.json.' } },
    ]);
    expect(exitCode).toBe(1);
  });

  it('ends with 1 where it was stopped on the way', async () => {
    const { stderr, exitCode } = await kiln(create, { api: answering(STOPPED) });
    expect(stderr).toContain('stopped before it came to run');
    expect(exitCode).toBe(1);
  });

  it('goes on over a stack that does not answer for a while, not over a refusal', async () => {
    const away = new KilnError('API_UNAVAILABLE', 'no answer');
    expect((await kiln(create, { api: answering(away, away, RUNNING) })).exitCode).toBe(0);
    const refused = await kiln(create, { api: answering(new KilnError('UNAUTHORIZED', 'no'), RUNNING) });
    expect(refused.stderr).toContain('UNAUTHORIZED');
    expect(refused.exitCode).toBe(1);
  });

  it('leaves the workload alone at Ctrl-C and says how to stop it', async () => {
    const { stderr, exitCode } = await kiln(create, { api: answering(), interrupt: AbortSignal.abort() });
    expect(stderr).toContain('kiln workload stop hello-1');
    expect(exitCode).toBe(130);
  });
});

describe('kiln workload', () => {
  it('get is the table, or the view as one document', async () => {
    const api = { getWorkload: async () => FAILED };
    expect((await kiln(['workload', 'get', 'hello-1'], { api })).stdout).toContain('✗ validate');
    expect(json((await kiln(['workload', 'get', 'hello-1', '--json'], { api })).stdout)).toEqual([FAILED]);
  });

  it('inspect shows stack and log without what steers a terminal', async () => {
    const view = {
      ...FAILED,
      stack: 'Error: x\n  at \u001b[31my\u001b[0m',
      logs: [{ timestamp: at(1), stage: 'validate' as const, message: 'a\u001b[2Jb\u0008', level: 'warn' as const }],
    };
    const { stdout } = await kiln(['workload', 'inspect', 'hello-1'], { api: { getWorkload: async () => view } });
    expect(stdout).toContain('  Error: x\n    at y\n');
    expect(stdout).toContain(`${at(1)}  validate  warn   ab·`);
    expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/);
  });

  it('list reads page after page up to its limit, one document a workload', async () => {
    const asked: unknown[] = [];
    const item = (n: number) => ({ id: `w-${n}`, stage: 'running' as const, createdAt: at(n) });
    const listWorkloads: Api['listWorkloads'] = async (request) => {
      asked.push(request?.query);
      return asked.length === 1 ? { items: [item(1), item(2)], next: 'more' } : { items: [item(3)], next: 'even-more' };
    };
    const args = ['workload', 'list', '--stage', 'running', '--project', 'p-1', '--limit', '3', '--json'];
    const { stdout, stderr } = await kiln(args, { api: { listWorkloads } });
    expect(json(stdout)).toEqual([item(1), item(2), item(3)]);
    expect(asked).toEqual([
      { stage: 'running', projectId: 'p-1', limit: 3 },
      { stage: 'running', projectId: 'p-1', limit: 1, cursor: 'more' },
    ]);
    expect(stderr).toContain('--limit');
  });

  it('list is nothing but its head where there are none, and no document with --json', async () => {
    const api = { listWorkloads: async () => ({ items: [] }) };
    expect((await kiln(['workload', 'list'], { api })).stdout).toMatch(/^ID +STAGE.*\n$/);
    expect((await kiln(['workload', 'list', '--json'], { api })).stdout).toBe('');
  });

  it.each([
    [STOPPED, [], 0],
    [RUNNING, [], 1],
    [RUNNING, ['--wait-ms', '0'], 0],
  ])('stop tells whether it is over', async (view, args, expected) => {
    const bodies: unknown[] = [];
    const stopWorkload: Api['stopWorkload'] = async ({ body }) => {
      bodies.push(body);
      return view;
    };
    const ran = await kiln(['workload', 'stop', 'hello-1', '--reason', 'done', ...args], { api: { stopWorkload } });
    expect(ran.exitCode).toBe(expected);
    expect(bodies).toEqual([{ reason: 'done', ...(args.length > 0 ? { waitMs: 0 } : {}) }]);
  });

  it('history shows the moves and the number of events', async () => {
    const moves = RUNNING.transitions;
    const history = { id: 'hello-1', source: 'temporal' as const, stages: ['pending' as const], moves, events: 61 };
    const { stdout } = await kiln(['workload', 'history', 'hello-1'], {
      api: { workloadHistory: async () => history },
    });
    expect(stdout.split('\n')).toHaveLength(moves.length + 3);
    expect(stdout).toContain('61 events');
  });
});

describe('the other commands', () => {
  const deployment = {
    id: 'd-1',
    projectId: 'p-1',
    serviceName: 'Hello',
    servicePath: 'services/hello',
    status: 'active' as const,
    createdAt: at(0),
  };

  it('deployment create sends the record', async () => {
    const bodies: unknown[] = [];
    const createDeployment: Api['createDeployment'] = async ({ body }) => {
      bodies.push(body);
      return deployment;
    };
    const args = ['deployment', 'create', '--project', 'p-1', '--name', 'Hello', '--service', './services/hello'];
    const { stdout } = await kiln([...args, '--json'], { api: { createDeployment } });
    expect(bodies).toEqual([{ projectId: 'p-1', serviceName: 'Hello', servicePath: 'services/hello' }]);
    expect(json(stdout)).toEqual([deployment]);
  });

  it('host list shows what is free', async () => {
    const host = {
      hostId: 'dev-1',
      url: 'http://127.0.0.1:5000',
      at: at(98),
      capacity: { vcpus: 4, memMib: 4096 },
      free: { vcpus: 3, memMib: 3584 },
      load: 0.5,
      images: [],
      driver: 'qemu',
      versions: {},
      draining: false,
    };
    const api = { listHosts: async () => ({ items: [host] }) };
    const { stdout } = await kiln(['host', 'list'], { api });
    expect(stdout).toMatch(/dev-1 +qemu +3 of 4 +3584 of 4096 +0\.50 +0 +2\.0 s ago +open/);
    expect(json((await kiln(['host', 'list', '--json'], { api })).stdout)).toEqual([host]);
  });

  it.each([
    ['drain', true],
    ['undrain', false],
  ])('host %s says what it has asked for', async (command, draining) => {
    const api = { drainHost: async () => ({ hostId: 'dev-1', draining, at: at(0) }) };
    const { stdout, exitCode } = await kiln(['host', command, 'dev-1'], { api });
    expect([exitCode, stdout]).toEqual([0, expect.stringContaining(draining ? 'takes no new' : 'takes new')]);
  });

  it.each([
    [true, 0],
    [false, 1],
  ])('gateway status: ready %s', async (ready, expected) => {
    const checks = [{ name: 'host', ok: ready, ...(ready ? {} : { detail: 'No host has registered lately' }) }];
    const api = { readyz: async () => ({ ready, checks }) };
    const { stdout, exitCode } = await kiln(['gateway', 'status', '--json'], { api });
    expect(json(stdout)).toEqual([{ apiUrl: 'http://127.0.0.1:4800', source: 'test', ready, checks }]);
    expect(exitCode).toBe(expected);
    expect(stdout).not.toContain('secret-token');
  });

  it('gateway status beside a drained host says why it is not ready', async () => {
    const detail = 'Every host that answers is drained and takes no new work: dev-1.';
    const api = { readyz: async () => ({ ready: false, checks: [{ name: 'host', ok: false, detail }] }) };
    const { stdout, exitCode } = await kiln(['gateway', 'status'], { api });
    expect([exitCode, stdout]).toEqual([1, expect.stringMatching(/not ready\n.*host.*drained.*dev-1/)]);
  });
});
