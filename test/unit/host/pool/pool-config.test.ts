import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readEnvironment } from '../../../../config/environment.ts';
import { poolStatusSchema } from '../../../../contracts/api/pool.ts';
import { DEFAULT_POOL_SETTINGS } from '../../../../domain/pool/pool-policy.ts';
import { assertPoolInput, DEFAULT_POOL_TIMINGS, poolRound } from '../../../../domain/pool/pool-round.ts';
import { NO_COUNTS, type PoolStatus } from '../../../../domain/pool/pool-status.ts';
import { poolFromEnvironment } from '../../../../workers/host/pool-from-environment.ts';
import { poolDetails } from '../../../../workflows/pool/pool-details.ts';
import { at, kiln } from '../../../support/gateway/cli-fixtures.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kc-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function configured(text: string, more: Record<string, string> = {}) {
  await writeFile(join(folder, 'pool.json'), text);
  return poolFromEnvironment(readEnvironment({ KILN_POOL_FILE: join(folder, 'pool.json'), ...more }));
}

describe('the configuration of a pool', () => {
  it('says none by default, and any number by one variable', async () => {
    expect(await poolFromEnvironment(readEnvironment({}))).toEqual({ limits: { pool_size: 0 }, warm: [] });
    expect(await poolFromEnvironment(readEnvironment({ KILN_POOL_SIZE: '3' }))).toEqual({
      limits: { pool_size: 3 },
      warm: [],
    });
  });

  it('is read from a file, durations as people write them; the variable counts over it', async () => {
    const text = JSON.stringify({
      max_idle_time: '90s',
      snapshots: { refresh_interval: '0.5h' },
      warm: [{ image: 'node' }],
    });
    const warm = [{ image: 'node', vcpus: 1, memMib: 512 }];
    const limits = { max_idle_time: 90_000, snapshots: { refresh_interval: 1_800_000 } };
    expect(await configured(text)).toEqual({ limits, warm });
    expect(await configured(text, { KILN_POOL_SIZE: '0' })).toEqual({ limits: { ...limits, pool_size: 0 }, warm });
  });

  it.each([
    ['{"pool_sise": 3}', 'unknown key "pool_sise"'],
    ['{"max_idle_time": 300}', 'max_idle_time'],
    ['{"max_idle_time": "soon"}', 'duration such as'],
    ['{"pool_size": -1}', 'pool_size'],
    ['{"pool_size": 4, "max_pool_size": 3}', 'must not be more than max_pool_size'],
    ['{"snapshots": {"max_age": "1m"}}', 'refresh_interval'],
    ['{', 'no valid JSON'],
  ])('%s is refused by name', async (text, named) => {
    const refused = expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringContaining(named) });
    await expect(configured(text)).rejects.toEqual(refused);
  });

  it('a file that is not there is no pool switched off by mistake', async () => {
    const env = readEnvironment({ KILN_POOL_FILE: join(folder, 'none.json') });
    await expect(poolFromEnvironment(env)).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });
});

describe('the input of a pool’s workflow', () => {
  it.each([
    undefined,
    'h1',
    { hostId: 'H 1', timings: DEFAULT_POOL_TIMINGS },
    { hostId: 'h1' },
    { hostId: 'h1', timings: { ...DEFAULT_POOL_TIMINGS, everyMs: 0 } },
  ])('%j is refused', (input) => {
    expect(() => assertPoolInput(input)).toThrow(expect.objectContaining({ code: 'SPEC_INVALID' }));
  });

  it('with a host and all timings is taken', () => {
    expect(() => assertPoolInput({ hostId: 'h1', timings: DEFAULT_POOL_TIMINGS })).not.toThrow();
  });
});

const STATUS: PoolStatus = {
  hostId: 'dev-1',
  at: at(98),
  enabled: true,
  settings: DEFAULT_POOL_SETTINGS,
  counters: { ...NO_COUNTS, hits: 8, waits: 1, misses: 1, recycled: { idle: 2 } },
  pools: [
    {
      image: 'node',
      imageDigest: `sha256:${'a'.repeat(64)}`,
      vcpus: 1,
      memMib: 512,
      projectId: 'p-1',
      reason: 'standing',
      target: 3,
      lowWater: 2,
      ready: 2,
      creating: 1,
      counters: { ...NO_COUNTS, hits: 8, waits: 1, misses: 1, recycled: { idle: 2 } },
      template: { templateId: 't-1', createdAt: at(40) },
      vms: [
        { vmId: 'pool-a', state: 'ready', createdAt: at(60), execCount: 0, templateId: 't-1' },
        { vmId: 'pool-b', state: 'creating', createdAt: at(97), execCount: 0 },
      ],
    },
  ],
};
const api = { listPools: async () => poolList };
const poolList = { items: [poolStatusSchema.parse(STATUS)] };
const lines = (text: string): unknown[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

describe('what is shown of pools', () => {
  it('kiln pool status: how full, how often of use, what went', async () => {
    const { stdout, exitCode } = await kiln(['pool', 'status'], { api });
    expect(exitCode).toBe(0);
    expect(stdout).toContain('dev-1: 90 % of 10 requests were given a ready VM');
    expect(stdout).toMatch(/node +1 vCPU, 512 MiB +p-1 +standing +2 of 3 +1 +8 +1 +1 +idle 2/);
    expect(lines((await kiln(['pool', 'status', '--json'], { api })).stdout)).toEqual([STATUS]);
    const off = { listPools: async () => ({ items: [{ ...poolStatusSchema.parse(STATUS), enabled: false }] }) };
    expect((await kiln(['pool', 'status'], { api: off })).stdout).toContain('no pool');
  });

  it('kiln pool inventory: every VM and template', async () => {
    const { stdout } = await kiln(['pool', 'inventory'], { api });
    expect(stdout).toMatch(/vm +pool-a +dev-1 +ready +node .* t-1/);
    expect(stdout).toMatch(/vm +pool-b +dev-1 +creating +node .* cold boot/);
    const items = lines((await kiln(['pool', 'inventory', '--json'], { api })).stdout);
    expect(items).toMatchObject([
      { kind: 'template', id: 't-1', hostId: 'dev-1' },
      { kind: 'vm', id: 'pool-a', templateId: 't-1', projectId: 'p-1' },
      { kind: 'vm', id: 'pool-b', state: 'creating' },
    ]);
  });

  it('the page in the Temporal Web UI: statistics, or since when the host is silent; never markup from outside', () => {
    const last = { ...poolRound(STATUS), at: at(99) };
    const page = poolDetails('dev-1', { rounds: 7, last });
    expect(page).toContain('90 % of 10 (at once 8, after waiting 1, none ready 1)');
    expect(page).toContain('| 2 of 3 |');
    const silent = { since: at(50), reason: '# not a heading' };
    expect(poolDetails('dev-1', { rounds: 8, last, silent })).toMatch(/does not answer since .*\n\n(?!#)/);
    const many = {
      ...STATUS,
      pools: Array.from({ length: 40 }, () => STATUS.pools[0]).filter((one) => one !== undefined),
    };
    const round = poolRound(many);
    expect([round.pools.length, round.more, JSON.stringify(round).length < 4096]).toEqual([8, 32, true]);
  });
});
