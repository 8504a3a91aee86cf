/** Only its user may read the home of a stack: everything that any process writes, and what an older Kiln left open. */
import { chmod, lstat, readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { answerOf, type RunningStack, StackHome } from '../support/workers/dev-stack.ts';
import { SERVICES } from '../support/workers/harness-workers.ts';

/** Files that VMMs of projects open: everybody may read them, but not the folders above them. */
const OPENED_BY_VMMS = /^host\/(images|templates|checkpoints|empty-disks)\//;
/** Those of them that a host never replaces, unlike a template, whose creation may be given up. */
const LASTING = /^host\/(images|empty-disks)\//;
let home: StackHome;
let stack: RunningStack;

beforeAll(async () => {
  home = await StackHome.make();
  stack = await home.startDev(SERVICES);
});
afterAll(() => home.remove());

interface Found {
  readonly path: string;
  readonly mode: number;
  readonly isFolder: boolean;
}

/** @returns files and folders of the home, without those that disappear during the walk */
async function everything(): Promise<Found[]> {
  const { home: root } = home.paths;
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const looked = entries.map(async (entry) => {
    const path = join(entry.parentPath, entry.name);
    const found = await lstat(path).catch(() => undefined);
    if (found === undefined || !(found.isFile() || found.isDirectory())) return [];
    return [{ path: relative(root, path), mode: found.mode & 0o777, isFolder: found.isDirectory() }];
  });
  const own = { path: '.', mode: (await stat(root)).mode & 0o777, isFolder: true };
  return [own, ...(await Promise.all(looked)).flat()];
}

async function openToOthers(): Promise<string[]> {
  const found = await everything();
  // If the walk found almost nothing, it would prove nothing.
  for (const folder of ['temporal', 's3', 'logs', 'host']) {
    expect(found.filter(({ path, isFolder }) => path.startsWith(`${folder}/`) && !isFolder)).not.toEqual([]);
  }
  return found
    .filter(({ path, mode, isFolder }) => (mode & 0o077) !== 0 && (isFolder || !OPENED_BY_VMMS.test(path)))
    .map(({ path, mode }) => `${mode.toString(8)} ${path}`);
}

it('nothing that a stack makes is open to other users', async () => {
  await stack.api.createWorkload({ body: { id: 'private', servicePath: 'plain', projectId: 'p' } });
  await stack.untilStage('private', 'running');
  expect(await openToOthers()).toEqual([]);
});

it('a home that was open is closed at the start, under a VM that runs on with its files as they were', async () => {
  const before = await stack.untilStage('private', 'running');
  await stack.end('SIGKILL');
  const opened: Found[] = [];
  for (const one of await everything()) {
    if (OPENED_BY_VMMS.test(one.path) && !one.isFolder) continue;
    // Disks and sockets of VMs always had the right modes.
    if (/^host\/vms\/[^/]+\//.test(one.path)) continue;
    await chmod(join(home.paths.home, one.path), one.isFolder ? 0o755 : 0o644);
    opened.push(one);
  }
  expect(opened.length).toBeGreaterThan(50);
  const kept = async () => (await everything()).filter(({ path, isFolder }) => LASTING.test(path) && !isFolder);
  const keptBefore = await kept();
  expect(keptBefore).not.toEqual([]);
  stack = await home.startDev(SERVICES);
  const after = await stack.untilStage('private', 'running');
  expect(after).toMatchObject({ pid: before.pid, port: before.port });
  expect(await answerOf(after.url)).toContain('hostname');
  expect(await openToOthers()).toEqual([]);
  expect(await kept()).toEqual(expect.arrayContaining(keptBefore));
  // New VMs can still be started from those files.
  await stack.api.createWorkload({ body: { id: 'another', servicePath: 'plain', projectId: 'q' } });
  expect(await answerOf((await stack.untilStage('another', 'running')).url)).toContain('hostname');
  expect(await stack.end('SIGINT')).toEqual({ code: 0, signal: null });
  expect(await home.left()).toEqual([]);
});
