/** What a head says of garbage: in the same write as the save that makes it so. */
import { beforeEach, expect, it } from 'vitest';
import { KEPT_SAVES } from '../../../../contracts/store/save-documents.ts';
import { storeKeys } from '../../../../domain/names.ts';
import { createSaveHeads, type NextSave } from '../../../../store/sessions/saves/heads.ts';
import { createMemoryStore, type MemoryStore } from '../../../support/saves/memory-store.ts';
import { SESSION } from '../../../support/saves/saves-fixture.ts';

const saltHex = '0'.repeat(64);
const saveOf = (turn: number) => ({ turn, saveId: `1-${turn}-0`, treeSha256: '0'.repeat(64) });
const pack = (turn: number) => `1-${turn}-0-0`;

let store: MemoryStore;
beforeEach(async () => {
  store = createMemoryStore();
  await createSaveHeads(store).claim(SESSION, 1, saltHex);
});

/** A save that needs its own pack and the first one, after one that did so too. */
const next = (turn: number, more: Partial<NextSave> = {}): NextSave => ({
  ...{ save: saveOf(turn), saltHex, packs: [pack(1), pack(turn)], nowMs: turn * 1000 },
  ...(turn === 1 ? {} : { before: { saveId: `1-${turn - 1}-0`, packs: [pack(1), pack(turn - 1)] } }),
  ...more,
});
const advance = (turn: number, more: Partial<NextSave> = {}) =>
  createSaveHeads(store).advance(SESSION, next(turn, more));

async function advanceTo(turn: number): Promise<void> {
  for (let n = 1; n <= turn; n++) await advance(n);
}

it('a head without garbage looks as it always did', async () => {
  await advance(1);
  const { check, ...head } = JSON.parse(store.objects.get(storeKeys.saveHead(SESSION))?.toString() ?? '');
  expect(check).toMatch(/^[0-9a-f]{64}$/);
  expect(head).toEqual({ schemaVersion: 1, session: SESSION, epoch: 1, save: saveOf(1), saltHex, kept: [saveOf(1)] });
});

it('a save that is dropped is condemned with what only it needed, until that is deleted', async () => {
  await advanceTo(KEPT_SAVES + 1);
  const head = await advance(KEPT_SAVES + 2);
  const at = (turn: number) => new Date(turn * 1000).toISOString();
  expect(head.condemned).toEqual([
    { at: at(KEPT_SAVES + 1), saveId: '1-1-0', packs: [] },
    { at: at(KEPT_SAVES + 2), saveId: '1-2-0', packs: [pack(2)] },
  ]);
  expect(head.kept[0]).toEqual(saveOf(3));
  expect(head.kept[1]).toEqual({ ...saveOf(4), gone: [pack(3)] });
  expect(await createSaveHeads(store).read(SESSION)).toEqual(head);
  const after = await advance(KEPT_SAVES + 3, { deleted: { packs: [pack(2)], saveIds: ['1-1-0', '1-2-0'] } });
  expect(after.condemned?.map(({ saveId }) => saveId)).toEqual(['1-3-0']);
});

it('another placement keeps it', async () => {
  await advanceTo(KEPT_SAVES + 2);
  const { condemned, kept } = await createSaveHeads(store).claim(SESSION, 2, undefined);
  expect(condemned?.length).toBe(2);
  expect(kept[1]).toHaveProperty('gone');
});

it('what was read of another save than the head names is no proof that a pack is gone', async () => {
  await advanceTo(3);
  const head = await advance(4, { before: { saveId: '1-2-0', packs: [pack(1), pack(2), pack(3)] } });
  expect(head.kept.at(-1)).toEqual(saveOf(4));
});

it.each([
  ['is gone since a kept save', pack(3)],
  ['is condemned', pack(2)],
  ['the save before it does not need', '1-4-0-7'],
])('refuses a save with a pack that %s', async (_, lost) => {
  await advanceTo(KEPT_SAVES + 2);
  const before = store.objects.get(storeKeys.saveHead(SESSION));
  const late = KEPT_SAVES + 3;
  await expect(advance(late, { packs: [pack(1), pack(late), lost] })).rejects.toMatchObject({
    code: 'SESSION_CORRUPT',
    message: expect.stringContaining(lost),
  });
  expect(store.objects.get(storeKeys.saveHead(SESSION))).toBe(before);
});
