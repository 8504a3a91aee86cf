/** `kiln deploy` against a stack that does not have the folder, with a real guest. */
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { workloadViewSchema } from '../../contracts/api/workload-view.ts';
import { type RunningStack, StackHome } from '../support/workers/dev-stack.ts';
import { SERVICES } from '../support/workers/harness-workers.ts';

let home: StackHome;
let stack: RunningStack;
let elsewhere: string;
beforeAll(async () => {
  elsewhere = await mkdtemp(join(tmpdir(), 'kiln-elsewhere-'));
  await cp(join(SERVICES, 'plain'), join(elsewhere, 'my-service'), { recursive: true });
  home = await StackHome.make();
  stack = await home.startDev(SERVICES);
});
afterAll(async () => {
  await home.remove();
  await rm(elsewhere, { recursive: true });
});

it('refuses secrets, uploads the folder once, and runs it', async () => {
  const folder = join(elsewhere, 'my-service');
  const deploy = (...more: string[]) => home.kiln(['deploy', folder, '--json', ...more]);
  await writeFile(join(folder, '.env'), 'TOKEN=x');
  const refused = deploy();
  expect((await refused.ended).code).toBe(1);
  expect(refused.stderr()).toContain('.env');
  await writeFile(join(folder, '.gitignore'), '.env\n');
  const first = deploy('--id', 'mine');
  expect(await first.ended, first.stderr()).toEqual({ code: 0, signal: null });
  expect(first.stderr()).toContain('Sent ');
  const view = workloadViewSchema.parse(JSON.parse(first.stdout()));
  expect(view).toMatchObject({ id: 'mine', stage: 'running' });
  expect((await fetch(view.url ?? '')).status).toBe(200);
  const again = deploy('--id', 'mine', '--no-wait');
  expect(await again.ended, again.stderr()).toEqual({ code: 0, signal: null });
  expect(again.stderr()).toContain('stored already');
  expect(workloadViewSchema.parse(JSON.parse(again.stdout())).containerId).toBe(view.containerId);
  expect(await stack.end('SIGINT')).toEqual({ code: 0, signal: null });
  expect(await home.left([view.port ?? 0])).toEqual([]);
});
