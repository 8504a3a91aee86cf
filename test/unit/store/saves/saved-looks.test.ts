/** What it may cost to find something in a saved workspace. */
import { buffer } from 'node:stream/consumers';
import { beforeEach, describe, expect, it } from 'vitest';
import { storeKeys } from '../../../../domain/names.ts';
import { saveCorrupt } from '../../../../store/sessions/saves/packs.ts';
import { type LookLimits, listSaved, lookAt, openSaved } from '../../../../store/sessions/saves/saved-files.ts';
import { MAX_LINKS, MAX_STEPS } from '../../../../store/sessions/saves/saved-paths.ts';
import { createSavedWorkspaces, type SavedWorkspace } from '../../../../store/sessions/saves/saved-workspace.ts';
import { decodedTree, encodedTree } from '../../../../store/sessions/saves/trees.ts';
import { builtSave, file, folder, hardlink, type NewEntry, symlink } from '../../../support/saves/built-save.ts';
import { createMemoryStore, type MemoryStore } from '../../../support/saves/memory-store.ts';
import { NEVER, SESSION } from '../../../support/saves/saves-fixture.ts';

let store: MemoryStore;
let reads: string[];
beforeEach(() => {
  store = createMemoryStore();
  reads = [];
});

async function workspaceOf(entries: Iterable<NewEntry>, maxCacheBytes = 64_000_000): Promise<SavedWorkspace> {
  const save = await builtSave(store, entries);
  const counting: Pick<MemoryStore, 'readBlob' | 'readPart'> = {
    readBlob: store.readBlob,
    readPart: (key, part, signal) => {
      reads.push(`${key} ${part.offset}`);
      return store.readPart(key, part, signal);
    },
  };
  return createSavedWorkspaces(counting, { maxCacheBytes }).open(SESSION, save, NEVER);
}

const within = (maxReads: number, signal = NEVER): LookLimits => ({ signal, maxReads });
const nameOf = (n: number) => `a/${String(n).padStart(6, '0')}`;
const FILES = 6000;

function* filesAndLinks(links: number): Generator<NewEntry> {
  yield folder('');
  yield folder('a');
  for (let n = 0; n < FILES; n++) yield file(nameOf(n), [], { mtimeNs: String(n * 1_000_000_000) });
  yield folder('z');
  for (let n = 0; n < links; n++) yield hardlink(`z/${String(n).padStart(6, '0')}`, nameOf((n * 1009) % FILES));
}

describe('hard links of a folder', () => {
  it('are shown as their files, and each piece is read once', async () => {
    const workspace = await workspaceOf(filesAndLinks(1000));
    const { entries } = await listSaved(workspace, 'z', within(1000));
    expect(entries.map(({ name, kind, modifiedAt }) => [name, kind, modifiedAt])).toEqual(
      Array.from({ length: 1000 }, (_, n) => [
        String(n).padStart(6, '0'),
        'file',
        new Date(((n * 1009) % FILES) * 1000).toISOString(),
      ]),
    );
    expect(reads.length).toBe(new Set(reads).size);
  });

  it('cost few reads, also where nothing is kept', async () => {
    const workspace = await workspaceOf(filesAndLinks(1000), 1);
    const { count } = workspace.pieces(within(1));
    await listSaved(workspace, 'z', within(10_000));
    expect(count).toBeGreaterThan(10);
    // Each piece once for its beginning, and once for its entries.
    expect(reads.length).toBeLessThan(3 * count);
  });
});

describe('a look', () => {
  it('that would need too many pieces is refused, and reads no more than it may', async () => {
    const workspace = await workspaceOf(filesAndLinks(1000));
    reads = [];
    await expect(listSaved(workspace, 'z', within(5))).rejects.toMatchObject({ code: 'INSPECTION_LIMIT' });
    expect(reads.length).toBe(5);
  });

  it('of many takes nothing from the others, and what is known costs nothing', async () => {
    const workspace = await workspaceOf(filesAndLinks(1));
    for (let n = 0; n < FILES; n += 100) await lookAt(workspace, nameOf(n), within(20));
    expect(await lookAt(workspace, nameOf(7), within(0))).toMatchObject({ kind: 'file' });
  });

  it('reads no more once its caller has left', async () => {
    const workspace = await workspaceOf(filesAndLinks(1000), 1);
    const caller = new AbortController();
    reads = [];
    store.onCall = ({ at }) => void (at === 'after' && reads.length === 3 && caller.abort(new Error('left')));
    await expect(listSaved(workspace, 'z', within(1000, caller.signal))).rejects.toThrow('left');
    expect(reads.length).toBe(3);
    for (const look of [lookAt, openSaved, listSaved]) {
      await expect(look(workspace, 'a', within(1000, caller.signal))).rejects.toThrow('left');
    }
    expect(reads.length).toBe(3);
  });

  it('that its caller breaks off in the middle of a read is no outage of the store', async () => {
    const workspace = await workspaceOf(filesAndLinks(1), 1);
    const caller = new AbortController();
    store.onCall = () => {
      caller.abort(new Error('left'));
      throw new Error('the request was broken off');
    };
    await expect(lookAt(workspace, 'a', within(1000, caller.signal))).rejects.toThrow('left');
  });
});

it('a tree that its caller does not wait for any more is neither damaged nor out of reach', async () => {
  const save = await builtSave(store, [folder('')]);
  const caller = new AbortController();
  store.onCall = () => {
    caller.abort(new Error('left'));
    throw saveCorrupt('a test');
  };
  const open = createSavedWorkspaces(store, { maxCacheBytes: 1 }).open(SESSION, save, caller.signal);
  await expect(open).rejects.toThrow('left');
});

describe('links', () => {
  const chain = (links: number): NewEntry[] => [
    folder(''),
    file('end'),
    ...Array.from({ length: links }, (_, n) =>
      symlink(`l${String(n).padStart(3, '0')}`, n + 1 === links ? 'end' : `l${String(n + 1).padStart(3, '0')}`),
    ),
  ];

  it(`are followed ${MAX_LINKS} times, and not once more`, async () => {
    const workspace = await workspaceOf(chain(MAX_LINKS + 1));
    expect(await lookAt(workspace, 'l001', within(100))).toMatchObject({ kind: 'file' });
    await expect(lookAt(workspace, 'l000', within(100))).rejects.toMatchObject({ code: 'SPEC_INVALID' });
  });

  it(`may have ${MAX_STEPS} steps in all, and not one more`, async () => {
    const dots = (steps: number) => './'.repeat(steps);
    // The name that is asked for, then those of the links: the last of them is the step that counts.
    const entries = (more: number) => [
      folder(''),
      file('end'),
      symlink('l0', `${dots(1500)}l1`),
      symlink('l1', `${dots(1500)}l2`),
      symlink('l2', `${dots(MAX_STEPS - 3000 - 3 + more)}end`),
    ];
    expect(await lookAt(await workspaceOf(entries(0)), 'l0', within(100))).toMatchObject({ kind: 'file' });
    await expect(lookAt(await workspaceOf(entries(1)), 'l0', within(100))).rejects.toMatchObject({
      code: 'SPEC_INVALID',
    });
  });
});

it('the tag of a file is of its save and path, also where an earlier session of the thread had a save of that id', async () => {
  const tagsOf = async (text: string) => {
    const workspace = await workspaceOf([folder(''), file('a', [Buffer.from(text)]), file('b', [Buffer.from(text)])]);
    return Promise.all(['a', 'b'].map(async (path) => (await lookAt(workspace, path, within(9))).etag));
  };
  const tags = [...(await tagsOf('one')), ...(await tagsOf('two'))];
  expect(new Set(tags).size).toBe(4);
  expect(await tagsOf('one')).toEqual(tags.slice(0, 2));
});

describe('what is kept in memory', () => {
  it('is weighed with its entries and chunks, not by its text alone', async () => {
    // Some 120 bytes of text, and a chunk, each.
    const entries = [folder(''), ...Array.from({ length: 60 }, (_, n) => file(`f${String(n).padStart(2, '0')}`))];
    const textBytes = 60 * 150;
    const workspace = await workspaceOf(entries, textBytes);
    for (let n = 0; n < 3; n++) await lookAt(workspace, 'f07', within(100));
    expect(new Set(reads).size).toBe(1);
    expect(reads.length).toBeGreaterThan(3);
    reads = [];
    const roomy = await workspaceOf(entries, 4 * textBytes);
    for (let n = 0; n < 3; n++) await lookAt(roomy, 'f07', within(100));
    expect(reads.length).toBe(1);
  });

  it('is weighed with its chunks', async () => {
    const chunks = Array.from({ length: 500 }, (_, n) => [Buffer.from(`${n}`), 1]).flat();
    const workspace = await workspaceOf([folder(''), file('f', chunks)], 100_000);
    for (let n = 0; n < 3; n++) await lookAt(workspace, 'f', within(100));
    expect(reads.length).toBeGreaterThan(3);
  });
});

describe('chunks', () => {
  it('outside of their pack are damage', async () => {
    const save = await builtSave(store, [folder(''), file('f', [Buffer.from('content')])]);
    const key = storeKeys.saveTree(SESSION, save.saveId);
    const tree = decodedTree(store.objects.get(key) ?? Buffer.alloc(0), {
      session: SESSION,
      saveId: save.saveId,
      sha256: save.treeSha256,
    });
    const pieces = tree.pieces.map((piece) => ({ ...piece, place: { ...piece.place, length: 1_000_000 } }));
    const { data, sha256 } = encodedTree({ ...tree, pieces });
    store.objects.set(key, data);
    const workspace = await createSavedWorkspaces(store, { maxCacheBytes: 1 }).open(
      SESSION,
      { ...save, treeSha256: sha256 },
      NEVER,
    );
    store.onCall = ({ method }) => {
      if (method === 'readPart') throw new Error('nothing is read');
    };
    await expect(lookAt(workspace, 'f', within(100))).rejects.toMatchObject({
      code: 'SESSION_CORRUPT',
      message: expect.stringContaining('outside of pack'),
    });
  });

  it('of zeros come in calls that bring no more than a few MiB unpacked', async () => {
    // They take no room in a pack: without a bound on what is unpacked, one call would bring them all.
    const zeros = Array.from({ length: 12 }, (_, n) => Buffer.alloc(1024 * 1024, n));
    const workspace = await workspaceOf([folder(''), file('f', zeros)]);
    const opened = await openSaved(workspace, 'f', within(100));
    reads = [];
    expect((await buffer(opened.read({ from: 0, to: opened.bytes }, NEVER))).equals(Buffer.concat(zeros))).toBe(true);
    expect(reads.length).toBe(3);
  });
});
