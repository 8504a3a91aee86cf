import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { CHECKOUT } from '../../../config/checkout.ts';
import { inheritedEnvironment } from '../../../config/environment.ts';
import { verdicts } from '../../../scripts/doctor/verdicts.mjs';

const GIB = 1024 ** 3;
const program = { name: 'go', wanted: [1, 26, 4], fix: 'install it' };
const home = '/h';
const devJson = { pid: 7, apiUrl: 'http://a' };

describe('a verdict of the doctor', () => {
  it.each<[string, string, Record<string, unknown>, string, string]>([
    ['an old Node', 'node', { version: 'v18.19.1' }, 'wrong', 'Node 20'],
    ['a Node that is new enough', 'node', { version: 'v20.3.0' }, 'ok', ''],
    ['a missing program', 'program', { ...program, code: 127, output: '' }, 'wrong', 'install it'],
    ['a program that hangs', 'program', { ...program, code: 124, output: '' }, 'wrong', 'install it'],
    ['a program of other words', 'program', { ...program, code: 0, output: 'hello' }, 'wrong', 'install it'],
    ['an old program', 'program', { ...program, code: 0, output: 'go version go1.19.8' }, 'wrong', 'install it'],
    ['a new program', 'program', { ...program, code: 0, output: 'go version go1.27.0' }, 'ok', ''],
    ['a part that is not made', 'part', {}, 'wrong', 'npm run setup'],
    ['a part that cannot be looked at', 'part', { error: 'broken' }, 'wrong', 'npm run setup'],
    ['no KVM', 'kvm', { exists: false, opens: false }, 'note', ''],
    ['a KVM of others', 'kvm', { exists: true, opens: false }, 'note', 'usermod'],
    ['no user namespaces', 'userNamespaces', { isRoot: false, works: false }, 'note', 'sysctl'],
    ['a full disk', 'diskSpace', { path: '/x', freeBytes: GIB, wantedBytes: 2 * GIB }, 'wrong', '/x'],
    ['a disk that cannot be looked at', 'diskSpace', { path: '/x', wantedBytes: GIB }, 'wrong', '/x'],
    ['little memory', 'memory', { freeBytes: GIB }, 'note', 'end something'],
    ['a folder of root', 'writable', { path: '/x', error: 'EACCES' }, 'wrong', 'chown'],
    ['a long path of sockets', 'runtimeDir', { path: `/${'x'.repeat(90)}` }, 'wrong', 'KILN_RUNTIME_DIR'],
    [
      'a squatted folder',
      'runtimeDir',
      { path: '/x', exists: true, ownerUid: 9, mode: 0o700, uid: 1 },
      'wrong',
      'remove',
    ],
    [
      'a folder open to all',
      'runtimeDir',
      { path: '/x', exists: true, ownerUid: 1, mode: 0o777, uid: 1 },
      'wrong',
      'chmod',
    ],
    ['a dev.json of a dead stack', 'stack', { home, devJson, pidAlive: false }, 'wrong', 'kiln dev'],
    ['a damaged dev.json', 'stack', { home, error: 'no JSON' }, 'wrong', 'rm /h/dev.json'],
    ['a gateway that is silent', 'stack', { home, devJson, pidAlive: true, apiAnswers: false }, 'wrong', 'restart'],
    ['no stack', 'stack', { home }, 'ok', ''],
    [
      'a left process',
      'leftProcesses',
      { home, left: [{ name: 's3', pid: 7 }], stackRuns: false },
      'wrong',
      'kiln dev',
    ],
    ['a server that is down', 'reachable', { address: 'a:1', error: 'ECONNREFUSED' }, 'wrong', 'address'],
    ['a registry that is down', 'registry', { name: 'npm', code: 1, output: 'no', fix: 'proxy' }, 'note', 'proxy'],
    ['a port that is taken', 'port', { port: 1, busy: true, stackRuns: false }, 'note', 'KILN_API_PORT'],
    [
      'a private name that is none',
      'privateNames',
      { text: 'a', error: '"a" is not name:port' },
      'wrong',
      'KILN_EGRESS',
    ],
    ['private names', 'privateNames', { text: 'a.b:1', entries: ['a.b:1'] }, 'ok', ''],
    ['a clock that is off', 'clock', { skewMs: -90_000, against: 'it' }, 'wrong', 'timedatectl'],
  ])('on %s', (_, check, facts, state, fix) => {
    const verdict = verdicts[check]?.(facts);
    expect(verdict?.state).toBe(state);
    expect(verdict?.fix ?? '').toContain(fix);
    expect(verdict?.found).not.toBe('');
  });
});

const reportSchema = z.object({
  ok: z.boolean(),
  checks: z.array(z.object({ name: z.string(), state: z.string(), found: z.string(), fix: z.string().optional() })),
});

describe('kiln doctor', () => {
  let root: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'kiln-doctor-'));
  });
  afterEach(() => rm(root, { recursive: true }));

  it('on a machine without tools, cache and stack names each missing part with its fix, and ends with 1', async () => {
    await mkdir(join(root, 'home'));
    await writeFile(join(root, 'home', 'dev.json'), '{"pid":');
    const env = {
      ...inheritedEnvironment(),
      PATH: '/nowhere',
      KILN_HOME: join(root, 'home'),
      KILN_CACHE: join(root, 'cache'),
      KILN_EGRESS_PRIVATE: 'db.corp:5432,*.corp:443',
    };
    const args = [join(CHECKOUT, 'scripts', 'kiln.mjs'), 'doctor', '--json'];
    const { code, stdout } = await new Promise<{ code: unknown; stdout: string }>((done) =>
      execFile(process.execPath, args, { env }, (error, out) => done({ code: error?.code ?? 0, stdout: out })),
    );
    expect(code).toBe(1);
    const report = reportSchema.parse(JSON.parse(stdout));
    expect(report.ok).toBe(false);
    const states = Object.fromEntries(report.checks.map(({ name, state }) => [name, state]));
    expect(states).toMatchObject({ Node: 'ok', Go: 'wrong', QEMU: 'wrong', 'guest agent': 'wrong', stack: 'wrong' });
    const egress = report.checks.find(({ name }) => name === 'private egress');
    expect(egress).toMatchObject({ state: 'wrong', found: expect.stringContaining('"*.corp:443" is a wildcard') });
    for (const { state, fix } of report.checks) if (state === 'wrong') expect(fix).toBeTruthy();
  });
});
