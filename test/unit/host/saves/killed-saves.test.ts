/** Random workspaces, changed, saved, uploaded and moved at random, by processes that are killed in the middle. */
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { repetitions } from '../../../../config/test-environment.ts';
import type { SessionSaves, WorkspaceOf } from '../../../../ports/saves.ts';
import type { FakeWorkspace } from '../../../support/saves/fake-workspaces.ts';
import { killedAfter } from '../../../support/saves/killed.ts';
import { createMemoryStore } from '../../../support/saves/memory-store.ts';
import { createSavesHost, mark, NEVER, placed, type SavesHost } from '../../../support/saves/saves-fixture.ts';

const PATHS = ['a', 'a/x', 'a/x/1', 'b', 'b/\xe9', 'c', 'c/d', 'c/d/e', 'z'];
const path = fc.constantFrom(...PATHS);

const edit = fc.oneof(
  { weight: 5, arbitrary: fc.tuple(fc.constant('write' as const), path, fc.nat(40)) },
  fc.tuple(fc.constantFrom('remove' as const, 'folder' as const), path, fc.constant(0)),
  fc.tuple(fc.constantFrom('rename' as const, 'hardlink' as const, 'symlink' as const), path, fc.nat(PATHS.length - 1)),
);
type Edit = typeof edit extends fc.Arbitrary<infer E> ? E : never;

function change(workspace: FakeWorkspace, [what, at, n]: Edit): void {
  const target = PATHS[n % PATHS.length] ?? '';
  const isWithin = (inner: string, outer: string) => `${inner}/`.startsWith(`${outer}/`);
  if (what === 'write') workspace.write(at, Buffer.alloc(n * 11, n % 4 === 0 ? 0 : `${n}:`));
  else if (what === 'remove') workspace.remove(at);
  else if (what === 'folder') workspace.folder(at);
  else if (what === 'symlink') workspace.symlink(at, target);
  else if (isWithin(at, target) || isWithin(target, at)) return;
  else if (what === 'rename') workspace.rename(at, target);
  else if (workspace.isFile(target)) workspace.hardlink(at, target);
}

/** Steps until the process is killed; absent: it is not. */
const kill = fc.option(fc.nat(60), { nil: undefined, freq: 2 });
const command = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('edit' as const), edits: fc.array(edit, { maxLength: 6 }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('snapshot' as const), kill }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('upload' as const), kill }) },
  fc.record({ do: fc.constantFrom('move' as const, 'boot' as const), kill }),
  fc.record({ do: fc.constant('late upload' as const) }),
);
type Command = typeof command extends fc.Arbitrary<infer C> ? C : never;

let hosts: SavesHost[] = [];
afterEach(async () => {
  for (const host of hosts) await host.remove();
  hosts = [];
});

/** A session on its way through hosts, and what must come of it. */
class World {
  readonly store = createMemoryStore();
  private epoch = 1;
  private boot = 1;
  private turn = 0;
  /** What the workspace was at each turn that was saved, or may have been. */
  private readonly walks = new Map<number, string[]>();
  /** Turns that must not be lost: with this host, and with any. */
  private spooled = 0;
  private stored = 0;

  get host(): SavesHost {
    const host = hosts[this.epoch % hosts.length];
    if (host === undefined) throw new Error('no host');
    return host;
  }

  get of(): WorkspaceOf {
    return placed(this.epoch, this.boot);
  }

  get workspace(): FakeWorkspace {
    return this.host.workspaces.of(this.of.vmId);
  }

  async run(what: Command): Promise<void> {
    if (what.do === 'edit') for (const each of what.edits) change(this.workspace, each);
    else if (what.do === 'snapshot') await this.snapshot(what.kill);
    else if (what.do === 'upload') await this.upload(what.kill);
    else if (what.do === 'late upload') await this.lateUpload();
    else await this.place(what.do, what.kill);
  }

  async restore(kill?: number): Promise<void> {
    const restored = await this.twice(kill, (saves) => saves.restore(this.of, NEVER));
    expect(restored?.mark.turn ?? 0).toBeGreaterThanOrEqual(Math.max(this.spooled, this.stored));
    if (restored === undefined) return;
    expect(this.workspace.walk()).toEqual(this.walks.get(restored.mark.turn));
    this.spooled = restored.mark.turn;
  }

  /** A process that was killed is followed by another, which does the same again. */
  private async twice<T>(kill: number | undefined, work: (saves: SessionSaves) => Promise<T>): Promise<T> {
    if (kill !== undefined) await killedAfter(kill, this.store, () => work(this.host.again()));
    return await work(this.host.again());
  }

  private async snapshot(kill: number | undefined): Promise<void> {
    this.turn += 1;
    this.walks.set(this.turn, this.workspace.walk());
    const spooled = await this.twice(kill, (saves) => saves.snapshot(this.of, mark(this.turn), NEVER));
    expect(spooled.mark.turn).toBe(this.turn);
    this.spooled = this.turn;
  }

  private async upload(kill: number | undefined): Promise<void> {
    const stored = await this.twice(kill, (saves) => saves.upload(this.of, NEVER));
    expect(stored?.mark.turn ?? 0).toBe(Math.max(this.spooled, this.stored));
    this.stored = stored?.mark.turn ?? 0;
  }

  private async place(how: 'move' | 'boot', kill: number | undefined): Promise<void> {
    if (kill !== undefined) {
      // The host is lost, or the VM dies, in the middle of a save.
      this.turn += 1;
      this.walks.set(this.turn, this.workspace.walk());
      const work = (saves: SessionSaves) =>
        saves.snapshot(this.of, mark(this.turn), NEVER).then(() => saves.upload(this.of, NEVER));
      await killedAfter(kill, this.store, () => work(this.host.again()));
    }
    if (how === 'move') {
      this.epoch += 1;
      this.boot = 1;
      this.spooled = 0;
    } else this.boot += 1;
    await this.restore(kill === undefined ? undefined : kill >> 1);
  }

  private async lateUpload(): Promise<void> {
    if (this.epoch === 1) return;
    const before = new Map(this.store.objects);
    const late = hosts[(this.epoch - 1) % hosts.length];
    await expect(late?.again().upload(placed(this.epoch - 1), NEVER)).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(this.store.objects).toEqual(before);
  }
}

describe('a workspace', () => {
  it('is what it was at the newest save, whoever was killed when', { timeout: 300_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 4, maxLength: 14 }), async (commands) => {
        const world = new World();
        hosts = [await createSavesHost(world.store), await createSavesHost(world.store)];
        await world.restore();
        for (const each of commands) await world.run(each);
        await world.run({ do: 'snapshot', kill: undefined });
        await world.run({ do: 'upload', kill: undefined });
        await world.run({ do: 'move', kill: undefined });
        for (const host of hosts) await host.remove();
        hosts = [];
      }),
      { numRuns: repetitions({ usually: 15, whole: 500 }) },
    );
  });

  it('is saved, uploaded and restored by processes that are killed after each step', { timeout: 120_000 }, async () => {
    const all: Command[] = [
      { do: 'edit', edits: PATHS.map((name, n) => ['write', name, n + 9]) },
      { do: 'snapshot', kill: undefined },
      { do: 'upload', kill: undefined },
      { do: 'edit', edits: [['write', 'z', 3]] },
    ];
    for (let steps = 0, isKilled = true; isKilled; steps += 1) {
      const world = new World();
      hosts = [await createSavesHost(world.store), await createSavesHost(world.store)];
      await world.restore();
      for (const each of all) await world.run(each);
      const walk = world.workspace.walk();
      const saves = world.host.again();
      const done = await killedAfter(steps, world.store, async () => {
        await saves.snapshot(world.of, mark(5), NEVER);
        await saves.upload(world.of, NEVER);
        return await saves.restore(world.of, NEVER);
      });
      isKilled = done === undefined;
      // Where it is whole already, this is the same save: what a restore has left half done does not count.
      await world.host.again().snapshot(world.of, mark(5), NEVER);
      await world.host.again().upload(world.of, NEVER);
      const there = hosts.find((host) => host !== world.host);
      await there?.saves.restore(placed(9), NEVER);
      expect(there?.workspaces.of('vm-9-1').walk()).toEqual(walk);
      for (const host of hosts) await host.remove();
      hosts = [];
    }
  });
});
