/**
 * Schemathesis against a gateway on real servers and workers: for all that the OpenAPI document allows or forbids, the
 * answers are those that it promises. Every run sends the same requests.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createKilnClient } from '../../client/http/kiln-client.ts';
import { readSetupRecord } from '../../config/setup-record.ts';
import { ROUTES } from '../../contracts/api/routes/route-table.ts';
import { type GatewayProcess, startGatewayProcess } from '../support/gateway/gateway-process.ts';
import { type Harness, startHarness } from '../support/workers/kiln-harness.ts';

const FILES = fileURLToPath(new URL('../fixtures/schemathesis', import.meta.url));
const CONFIGURATION = join(FILES, 'schemathesis.toml');
const HOOKS_FILE = join(FILES, 'schemathesis_hooks.py');
const TOKEN = 'a-token-of-the-schemathesis-tests';
let kiln: Harness;
let gateway: GatewayProcess;
let home: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'kiln-schemathesis-'));
  kiln = await startHarness();
  gateway = await startGatewayProcess({ namespace: kiln.namespace, bucket: kiln.store.bucket, token: TOKEN, home });
});
afterAll(async () => {
  await gateway?.close();
  await kiln?.close();
  await rm(home, { recursive: true, force: true });
});

/** @returns exit code and whole output */
async function schemathesis(args: readonly string[]): Promise<{ code: number | null; said: string }> {
  const { schemathesisPath: program } = readSetupRecord();
  if (program === undefined) throw new Error('Set-up has made no schemathesis: run `npm test`.');
  const child = spawn(program, ['--config-file', CONFIGURATION, 'run', `${gateway.url}/openapi.json`, ...args], {
    cwd: home,
    env: { HOOKS_FILE, HOME: home, PYTHONDONTWRITEBYTECODE: '1', PYTHONUTF8: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await ended, said: `${out}\n${err}` };
}

it('every answer is one that the OpenAPI document promises', async () => {
  const api = createKilnClient({ apiUrl: gateway.url, token: TOKEN });
  await expect.poll(async () => (await api.readyz()).ready, { timeout: 20_000 }).toBe(true);
  const { code, said } = await schemathesis([
    '--no-color',
    `--header=Authorization: Bearer ${TOKEN}`,
    '--generation-deterministic',
    '--max-examples=8',
    '--no-shrink',
    '--checks=all',
  ]);
  expect(gateway.errors).toEqual([]);
  expect(code, said).toBe(0);
  // It may leave out the path of the document itself.
  expect(Number(/Tested: +(\d+)$/m.exec(said)?.[1])).toBeGreaterThanOrEqual(Object.keys(ROUTES).length - 1);
});
